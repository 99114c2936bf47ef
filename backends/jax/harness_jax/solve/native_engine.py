"""One solve over s in [0, 1], under the step-size control of docs/numerics.md: the production
engine, in plain lax loops.

    - a step is accepted if the error ratio is at most 1;
    - a step that would pass s = 1 is shortened to land on it (`end: stop`), or is taken and the
      end interpolated within it (`end: interpolate`);
    - an infinite ratio is a rejection like any other, NaN ends the solve;
    - the last stage of an FSAL pair is the first of the next step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from harness.solvers import TABLEAUX
from harness.trial import AdaptiveSolver, FixedSolver
from harness_jax.solve.control import all_finite, first_step, next_step, scaled_norm
from harness_jax.solve.counts import MAX_STEPS, NON_FINITE, UNDERFLOW, Stats, evaluations
from harness_jax.solve.problem import InitialValue, NativeSolver, Tree, time_dtype
from harness_jax.solve.step import (
    Evaluate,
    Integrated,
    Start,
    part_within,
    put,
    rates_where,
    take_step,
)

__all__ = ["Recorder", "run", "solve"]


Size = Callable[..., jax.Array]


class Recorder(NamedTuple):
    """What a solve writes down for a backward pass.

    Arguments:
        empty: The tape before the first evaluation.
        evaluate: (tape, index of the evaluation, integrated, s, z) -> (dz/ds, dq/ds, tape).
            Evaluation `steps * needed + i` is stage i of the step after so many accepted ones; -1
            is none.
        step: (tape, index of the step, s, h, z, k) -> tape, at the end of every attempt.
    """

    empty: Tree
    evaluate: Evaluate
    step: Any

    def within_step(self, begun: jax.Array) -> Evaluate:
        """`evaluate` with stages counted from the one of that index."""
        return lambda tape, i, *at: self.evaluate(tape, begun + i, *at)


def solve(
    problem: InitialValue, solver: NativeSolver, *, rule: bool = True
) -> tuple[tuple[Tree, Tree], Stats]:
    """Solves without a gradient.

    Arguments:
        problem: What is integrated.
        solver: Method and tolerances.
        rule: False promises that the problem's `h0` is not 0, and so spares compiling the rule.

    Returns:
        (z, q) at s = 1, and what the solve did.
    """
    rates, inputs, fixed = problem.rates, problem.inputs, problem.fixed

    def evaluate(
        tape: Tree, index: jax.Array, integrated: Integrated, s: jax.Array, z: Tree
    ) -> tuple[Tree, Tree, Tree]:
        return *rates_where(integrated, rates, s, z, inputs, fixed), tape

    recorder = Recorder(None, evaluate, lambda tape, *_: tape)
    y, stats, _ = run(recorder, problem, solver, rule=rule)
    return y, stats


def run(
    recorder: Recorder, problem: InitialValue, solver: NativeSolver, *, rule: bool = True
) -> tuple[tuple[Tree, Tree], Stats, Tree]:
    """As `solve`, with a recorder, which evaluates the rates; returns its tape, too."""
    if isinstance(solver, FixedSolver):
        done, h, heuristic = _fixed(recorder, problem, solver)
    else:
        done, h, heuristic = _adaptive(recorder, problem, solver, rule)
    # Fixed steps have no error estimate that would notice, nor do leaves outside the norm.
    bad = (done.failure == 0) & ~all_finite((done.z, done.q))
    none = jnp.zeros_like(done.accepted)
    stats = Stats(
        accepted=done.accepted,
        rejected=done.rejected,
        evaluations=evaluations(solver, done.accepted + done.rejected, heuristic),
        first_step=h,
        proposed=done.proposed,
        largest=done.largest,
        failure=jnp.where(bad, NON_FINITE, done.failure).astype(jnp.int32),
        vjp=none,
        recompute=none,
    )
    return (done.z, done.q), stats, done.tape


class _Progress(NamedTuple):
    s: jax.Array
    h: jax.Array
    z: Tree
    q: Tree
    k: Tree
    ends: Tree
    known: jax.Array
    proposed: jax.Array
    largest: jax.Array
    accepted: jax.Array
    rejected: jax.Array
    failure: jax.Array
    tape: Tree


def _adaptive(
    recorder: Recorder, problem: InitialValue, solver: AdaptiveSolver, rule: bool
) -> tuple[_Progress, jax.Array, jax.Array]:
    """Runs an FSAL pair; every pair of harness.solvers is one. Returns the first step, too, and
    whether the heuristic found it.
    """
    size, h0 = scaled_norm(solver, problem.leaves), problem.h0
    start = _start(recorder, problem.y0, TABLEAUX[solver.name].stages)
    if h0 is None or rule:
        start = _first_step(recorder, start, problem, solver)
    else:
        start = start._replace(h=h0)
    # A field that is not finite gives no first step: not one too small, nor one to clip to 1.
    failure = jnp.where(jnp.isnan(start.h), NON_FINITE, 0).astype(jnp.int32)
    done = lax.while_loop(
        lambda at: (at.failure == 0) & (at.s < 1),
        lambda at: _attempt(recorder, solver, size, at),
        start._replace(failure=failure, proposed=start.h),
    )
    return done, start.h, start.known > 0


def _start(recorder: Recorder, y0: tuple[Tree, Tree], stages: int) -> _Progress:
    z, q = y0
    zero, none = jnp.zeros((), time_dtype(y0)), jnp.zeros((), jnp.int32)
    room = jax.tree.map(lambda leaf: jnp.zeros((stages, *leaf.shape), leaf.dtype), z)
    ends = jax.tree.map(lambda leaf: jnp.zeros((2, *leaf.shape), leaf.dtype), q)
    return _Progress(
        zero, zero, z, q, room, ends, none, zero, zero, none, none, none, recorder.empty
    )


def _first_step(
    recorder: Recorder, start: _Progress, problem: InitialValue, solver: AdaptiveSolver
) -> _Progress:
    """The solver's rule where `h0` is None or 0. The heuristic's f(y0) is the first stage."""
    given = jnp.zeros_like(start.s) if problem.h0 is None else problem.h0
    if solver.first_step not in ("heuristic", "warm"):
        step = 1.0 if solver.first_step == "whole" else solver.first_step
        rule_h = jnp.asarray(step, given.dtype)
        return start._replace(h=jnp.where(given == 0, rule_h, given))
    known = (given == 0).astype(jnp.int32)

    def evaluate(tape: Tree, i: jax.Array, s: jax.Array, y: Tree) -> tuple[Tree, Tree]:
        dz, dq, tape = recorder.evaluate(tape, jnp.where(i == 0, 0, -1), True, s, y[0])
        return (dz, dq), tape

    h, (dz, dq), tape = first_step(evaluate, problem, solver, known, start.tape)
    k, ends = put((start.k, start.ends), 0, (dz, dq))
    h = jnp.where(given == 0, h, given)
    return start._replace(h=h, k=k, ends=ends, known=known, tape=tape)


def _attempt(recorder: Recorder, solver: AdaptiveSolver, size: Size, at: _Progress) -> _Progress:
    """Tries one step of an FSAL pair."""
    tableau = TABLEAUX[solver.name]
    h, end, part = at.h, at.s + at.h, None
    if solver.end == "stop":
        passes = end > 1
        h = jnp.where(passes, 1 - at.s, at.h)
        end = jnp.where(passes, 1, at.s + h)
    else:
        part = part_within(at.s, h)
    evaluate = recorder.within_step(at.accepted * tableau.evaluations_per_step)
    start = Start(at.s, h, end, at.z, at.q, at.k, at.ends, at.known, part)
    step = take_step(evaluate, tableau, start, at.tape)
    tape = recorder.step(step.tape, at.accepted, at.s, h, at.z, step.k)
    ratio = size(step.error, (at.z, at.q), (step.z, step.q))
    accept = ratio <= 1
    largest = jnp.maximum(at.largest, h)
    last = jax.tree.map(lambda rows: rows[-1], (step.k, step.ends))
    first = jax.tree.map(lambda rows: rows[0], (step.k, step.ends))
    s, z, q, largest, first = jax.tree.map(
        lambda new, old: jnp.where(accept, new, old),
        (end, *step.reached, largest, last),
        (at.s, at.z, at.q, at.largest, first),
    )
    k, ends = put((step.k, step.ends), 0, first)
    accepted, rejected = at.accepted + accept, at.rejected + ~accept
    h = next_step(h, ratio, tableau)
    codes = [NON_FINITE, 0, MAX_STEPS, UNDERFLOW]
    conditions = [jnp.isnan(ratio), s >= 1, accepted + rejected >= solver.max_steps, s + h <= s]
    failure = jnp.select(conditions, [jnp.int32(code) for code in codes], jnp.int32(0))
    known = jnp.ones_like(at.known)
    return _Progress(s, h, z, q, k, ends, known, at.h, largest, accepted, rejected, failure, tape)


def _fixed(
    recorder: Recorder, problem: InitialValue, solver: FixedSolver
) -> tuple[_Progress, jax.Array, jax.Array]:
    tableau = TABLEAUX[solver.name]
    start = _start(recorder, problem.y0, tableau.stages)
    h = jnp.full_like(start.s, 1 / solver.steps)

    def advance(i: jax.Array, at: _Progress) -> _Progress:
        s = i.astype(h.dtype) / solver.steps
        evaluate = recorder.within_step(i * tableau.evaluations_per_step)
        whole = Start(s, h, s + h, at.z, at.q, at.k, at.ends, known=0)
        step = take_step(evaluate, tableau, whole, at.tape)
        tape = recorder.step(step.tape, i, s, h, at.z, step.k)
        return at._replace(z=step.z, q=step.q, k=step.k, ends=step.ends, tape=tape)

    done = lax.fori_loop(0, solver.steps, advance, start)
    steps = jnp.full_like(done.accepted, solver.steps)
    done = done._replace(proposed=h, largest=h, accepted=steps)
    return done, h, jnp.asarray(False)
