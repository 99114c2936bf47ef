"""One solve over s in [0, 1], under the step-size control of docs/numerics.md: the production
engine, in plain lax loops.

    - a step is accepted if the error ratio is at most 1;
    - a step that would pass s = 1 is shortened to land on it;
    - an infinite ratio is a rejection like any other, NaN ends the solve;
    - the last stage of an FSAL pair is the first of the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from harness.solvers import TABLEAUX, Tableau
from harness.trial import AdaptiveSolver, FixedSolver, SolverSpec
from harness_jax.control import (
    MAX_STEPS,
    NON_FINITE,
    UNDERFLOW,
    Leaves,
    Norm,
    Rates,
    Stats,
    Tree,
    all_finite,
    choose_first_step,
    error_norm,
    evaluations,
    next_step,
    scaled,
    time_dtype,
)
from harness_jax.record import Record, empty_record

__all__ = ["runge_kutta_step", "solve", "solve_direct"]

Flow = Callable[[jax.Array, Tree], Tree]
"""(s, y) -> dy/ds, everything else bound."""


def solve(
    rates: Rates,
    y0: Tree,
    inputs: Tree,
    fixed: Tree,
    solver: SolverSpec,
    leaves: Leaves,
    h0: jax.Array | None = None,
    *,
    rule: bool = True,
) -> tuple[Tree, Stats]:
    """Integrates from s = 0 to 1; not to be differentiated.

    Arguments:
        rates: The right-hand side.
        y0: Initial state.
        inputs: Differentiable inputs of the right-hand side.
        fixed: Its other inputs.
        solver: Method and tolerances.
        leaves: What the error norm sees.
        h0: Replaces the solver's rule for the first step at no cost, unless it is 0.
        rule: False promises that `h0` is not 0, and so spares compiling the rule.
    """
    end, stats, _ = _run(
        lambda s, y: rates(s, y, inputs, fixed), y0, solver, leaves, h0, rule, record=False
    )
    return end, stats


def solve_direct(
    rates: Rates,
    y0: Tree,
    inputs: Tree,
    fixed: Tree,
    solver: SolverSpec,
    leaves: Leaves,
    h0: jax.Array | None = None,
) -> tuple[Tree, Stats]:
    """As `solve`, differentiable in y0 and inputs by backpropagation through the accepted steps,
    each recomputed from its recorded start (discretise-then-optimise).
    """
    tableau = TABLEAUX[solver.name]

    @jax.custom_vjp
    def run(y0: Tree, inputs: Tree, fixed: Tree, h0: Tree) -> tuple[Tree, Stats]:
        return solve(rates, y0, inputs, fixed, solver, leaves, h0)

    def forward(y0: Tree, inputs: Tree, fixed: Tree, h0: Tree) -> tuple[tuple[Tree, Stats], Tree]:
        end, stats, record = _run(
            lambda s, y: rates(s, y, inputs, fixed), y0, solver, leaves, h0, True, record=True
        )
        return (end, stats), (record, stats.accepted, inputs, fixed)

    def backward(saved: Tree, cotangents: tuple[Tree, Tree]) -> tuple[Tree, Tree, None, None]:
        record, steps, inputs, fixed = saved

        def advance(s: jax.Array, h: jax.Array, y: Tree, inputs: Tree) -> Tree:
            return runge_kutta_step(lambda s, y: rates(s, y, inputs, fixed), tableau, s, h, y, [])[
                0
            ]

        def pull_back(i: jax.Array, bars: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
            y_bar, inputs_bar = bars
            index = steps - 1 - i
            s, h = record.starts[index], record.sizes[index]
            y = record.read(index, lambda s, h, y: advance(s, h, y, inputs))
            _, vjp = jax.vjp(lambda y, inputs: advance(s, h, y, inputs), y, inputs)
            y_bar, more = vjp(y_bar)
            return y_bar, jax.tree.map(jnp.add, inputs_bar, more)

        start = cotangents[0], jax.tree.map(jnp.zeros_like, inputs)
        y_bar, inputs_bar = lax.fori_loop(0, steps, pull_back, start)
        return y_bar, inputs_bar, None, None

    run.defvjp(forward, backward)
    return run(y0, inputs, fixed, h0)


def runge_kutta_step(
    flow: Flow, tableau: Tableau, s: jax.Array, h: jax.Array, y: Tree, stages: Sequence[Tree]
) -> tuple[Tree, list[Tree]]:
    """Takes one step.

    Arguments:
        flow: dy/ds as a function of (s, y).
        tableau: The method.
        s: Start of the step.
        h: Its size.
        y: State at `s`.
        stages: The first stages, if they are known.

    Returns:
        The state at s + h, and the stages that it depends on.
    """
    needed = tableau.stages - 1 if tableau.fsal else tableau.stages
    ks = list(stages)
    for i in range(len(ks), needed):
        at = y if i == 0 else _add(y, h, tableau.a[i], ks)
        ks.append(flow(s + tableau.c[i] * h, at))
    return _add(y, h, tableau.b, ks), ks


def _weighted(weights: Sequence[float], ks: Sequence[Tree]) -> Tree:
    """sum_j w_j k_j, without the zeros."""
    pairs = [(weight, k) for weight, k in zip(weights, ks, strict=False) if weight]

    def add(*leaves: jax.Array) -> jax.Array:
        total = pairs[0][0] * leaves[0]
        for (weight, _), leaf in zip(pairs[1:], leaves[1:], strict=True):
            total = total + weight * leaf
        return total

    return jax.tree.map(add, *(k for _, k in pairs))


def _add(y: Tree, h: jax.Array, weights: Sequence[float], ks: Sequence[Tree]) -> Tree:
    return jax.tree.map(lambda leaf, k: leaf + h * k, y, _weighted(weights, ks))


class _Progress(NamedTuple):
    s: jax.Array
    h: jax.Array
    y: Tree
    k1: Tree
    proposed: jax.Array
    largest: jax.Array
    accepted: jax.Array
    rejected: jax.Array
    failure: jax.Array
    record: Record | None


def _attempt(flow: Flow, solver: AdaptiveSolver, norm: Norm, at: _Progress) -> _Progress:
    """Tries one step of an FSAL pair."""
    tableau = TABLEAUX[solver.name]
    passes = at.s + at.h > 1
    h = jnp.where(passes, 1 - at.s, at.h)
    end = jnp.where(passes, 1, at.s + h)
    record = None if at.record is None else at.record.write(at.accepted, at.s, h, at.y)
    y, ks = runge_kutta_step(flow, tableau, at.s, h, at.y, [at.k1])
    ks.append(flow(end, y))
    error = jax.tree.map(lambda k: h * k, _weighted(tableau.error or (), ks))
    ratio = norm(scaled(error, solver, at.y, y))
    accept = ratio <= 1
    s, y, k1 = jax.tree.map(
        lambda new, old: jnp.where(accept, new, old), (end, y, ks[-1]), (at.s, at.y, at.k1)
    )
    largest = jnp.where(accept, jnp.maximum(at.largest, h), at.largest)
    accepted, rejected = at.accepted + accept, at.rejected + ~accept
    h = next_step(h, ratio, tableau)
    codes = [NON_FINITE, 0, MAX_STEPS, UNDERFLOW]
    found = [jnp.isnan(ratio), s >= 1, accepted + rejected >= solver.max_steps, s + h <= s]
    failure = jnp.select(found, [jnp.int32(code) for code in codes], jnp.int32(0))
    return _Progress(s, h, y, k1, at.h, largest, accepted, rejected, failure, record)


def _adaptive(
    flow: Flow,
    y0: Tree,
    solver: AdaptiveSolver,
    leaves: Leaves,
    h0: jax.Array | None,
    rule: bool,
    record: bool,
) -> tuple[_Progress, jax.Array, jax.Array]:
    """Runs an FSAL pair; every pair of harness.solvers is one. Returns the first step, too, and
    whether the heuristic found it.
    """
    norm = error_norm(solver.norm, leaves)
    zero = jnp.zeros((), time_dtype(y0))
    count = jnp.zeros((), jnp.int32)
    f0 = flow(zero, y0)
    h, heuristic = choose_first_step(flow, y0, f0, solver, leaves, h0, rule)
    # A field that is not finite gives no first step: not one too small, nor one to clip to 1.
    failure = jnp.where(jnp.isnan(h), NON_FINITE, 0).astype(jnp.int32)
    kept = empty_record(y0, solver.max_steps) if record else None
    start = _Progress(zero, h, y0, f0, h, zero, count, count, failure, kept)
    done = lax.while_loop(
        lambda at: (at.failure == 0) & (at.s < 1),
        lambda at: _attempt(flow, solver, norm, at),
        start,
    )
    return done, h, heuristic


def _fixed(flow: Flow, y0: Tree, solver: FixedSolver, record: bool) -> tuple[_Progress, jax.Array]:
    tableau = TABLEAUX[solver.name]
    dtype = time_dtype(y0)
    h = jnp.asarray(1 / solver.steps, dtype)
    kept = empty_record(y0, solver.steps) if record else None

    def step(i: jax.Array, at: tuple[Tree, Record | None]) -> tuple[Tree, Record | None]:
        y, kept = at
        s = i.astype(dtype) / solver.steps
        if kept is not None:
            kept = kept.write(i, s, h, y)
        return runge_kutta_step(flow, tableau, s, h, y, [])[0], kept

    y, kept = lax.fori_loop(0, solver.steps, step, (y0, kept))
    zero = jnp.zeros((), jnp.int32)
    return _Progress(
        jnp.ones((), dtype), h, y, None, h, h, zero + solver.steps, zero, zero, kept
    ), h


def _run(
    flow: Flow,
    y0: Tree,
    solver: SolverSpec,
    leaves: Leaves,
    h0: jax.Array | None,
    rule: bool,
    record: bool,
) -> tuple[Tree, Stats, Record | None]:
    heuristic = jnp.asarray(False)
    if isinstance(solver, FixedSolver):
        done, h = _fixed(flow, y0, solver, record)
    else:
        done, h, heuristic = _adaptive(flow, y0, solver, leaves, h0, rule, record)
    # Fixed steps have no error estimate that would notice, nor do leaves outside the norm.
    bad = (done.failure == 0) & ~all_finite(done.y)
    stats = Stats(
        accepted=done.accepted,
        rejected=done.rejected,
        evaluations=evaluations(solver, done.accepted + done.rejected, heuristic),
        first_step=h,
        proposed=done.proposed,
        largest=done.largest,
        failure=jnp.where(bad, NON_FINITE, done.failure).astype(jnp.int32),
    )
    return done.y, stats, done.record
