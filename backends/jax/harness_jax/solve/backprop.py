"""Backpropagation through the accepted steps of a solve (discretise, then optimise).

`direct` keeps what each evaluation needs to be differentiated, as many as there is room for, and
evaluates the others again. `checkpoint` keeps states alone, those at the starts of steps and, as
slopes, of their stages, and evaluates all of them again. `symplectic` keeps the former and
evaluates the latter once more. That is the gradient of T. Matsubara, Y. Miyatake, T. Yaguchi,
Symplectic adjoint method for exact gradient of neural ODE with minimal memory, 2021,
https://arxiv.org/abs/2102.09750: their partner method with weights b_j a_ji / b_i is the recursion
of `harness_jax.solve.step.pull_back`, which has no need to divide by weights that may be 0.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from harness.solvers import TABLEAUX
from harness.trial import AdaptiveSolver
from harness_jax.solve.counts import Stats
from harness_jax.solve.native_engine import Recorder, run, solve
from harness_jax.solve.problem import InitialValue, NativeSolver, Tree
from harness_jax.solve.record import Record, empty_record
from harness_jax.solve.step import (
    Integrated,
    Taken,
    add,
    either,
    part_within,
    pull_back,
    put,
    rates_where,
    stage_slopes,
)
from harness_jax.solve.tape import Room, TapedField, empty_room

__all__ = ["pull_back_again", "solve_checkpoint", "solve_direct", "solve_symplectic"]

Tape = tuple[Record, Room]


def solve_checkpoint(
    problem: InitialValue, solver: NativeSolver, *, keep: bool = False, slopes: bool = True
) -> tuple[tuple[Tree, Tree], Stats]:
    """As `solve`, differentiable in the problem's y0 and inputs.

    Arguments:
        problem: What is integrated.
        solver: Method and tolerances.
        keep: Keep evaluations, not only states.
        slopes: Keep states of stages, not only of steps.
    """

    def at(y0: Tree, inputs: Tree, fixed: Tree, h0: Tree) -> InitialValue:
        return problem._replace(y0=y0, inputs=inputs, fixed=fixed, h0=h0)

    @jax.custom_vjp
    def solved(*leaves: Tree) -> tuple[Tree, Stats]:
        return solve(at(*leaves), solver)

    def forward(y0: Tree, inputs: Tree, fixed: Tree, h0: Tree) -> tuple[Tree, Tree]:
        field = TapedField(problem.rates, inputs, fixed)
        recorder = _recorder(field, y0, solver, keep, slopes)
        y, stats, tape = run(recorder, at(y0, inputs, fixed, h0), solver)
        stats = _counted(stats, solver, tape)
        return (y, stats), (tape, stats.accepted, inputs, fixed)

    def backward(saved: Tree, cotangents: Tree) -> tuple[Tree, ...]:
        tape, steps, inputs, fixed = saved
        field = TapedField(problem.rates, inputs, fixed)
        return *_back_through(field, solver, tape, steps, cotangents[0]), None, None

    solved.defvjp(forward, backward)
    return solved(problem.y0, problem.inputs, problem.fixed, problem.h0)


solve_direct = partial(solve_checkpoint, keep=True)
"""As `solve_checkpoint`, with evaluations kept."""

solve_symplectic = partial(solve_checkpoint, slopes=False)
"""As `solve_checkpoint`, without states of stages."""


def _recorder(
    field: TapedField, y0: Tree, solver: NativeSolver, keep: bool, slopes: bool
) -> Recorder:
    tableau, z0 = TABLEAUX[solver.name], y0[0]
    max_steps = solver.max_steps if isinstance(solver, AdaptiveSolver) else solver.steps
    record = empty_record(z0, tableau, max_steps, slopes=slopes)
    needed = tableau.evaluations_per_step
    room: Room = []
    if keep:
        s, last = jnp.zeros_like(record.starts[0]), int(_interpolates(solver))
        room = empty_room(field, s, z0, needed, max_steps, last=last)

    def evaluate(
        tape: Tape, index: jax.Array, integrated: Integrated, s: jax.Array, z: Tree
    ) -> tuple[Tree, Tree, Tape]:
        if not keep:
            inputs, fixed = field.inputs, field.fixed
            rates = rates_where(integrated, field.rates, s, z, inputs, fixed)
            return *rates, tape
        record, room = tape
        slots = _slots(room)
        (dz, dq), kept = field.taped(s, z)
        slot = jnp.where((index < 0) | (index > slots), slots, index)
        return dz, dq, (record, put(room, slot, kept))

    def step(tape: Tape, index: jax.Array, *step: Tree) -> Tape:
        record, room = tape
        return record.write(index, *step), room

    return Recorder((record, room), evaluate, step)


def _back_through(
    field: TapedField, solver: NativeSolver, tape: Tape, steps: jax.Array, bars: tuple[Tree, Tree]
) -> tuple[Tree, Tree]:
    """Cotangents of the initial state and of the inputs."""
    tableau = TABLEAUX[solver.name]
    needed = tableau.evaluations_per_step
    record, room = tape
    z_bar, q_bar = bars

    def slope(s: jax.Array, z: Tree) -> Tree:
        return field.rates(s, z, field.inputs, field.fixed)[0]

    def slopes(i: jax.Array, z: Tree) -> Tree:
        k = jax.tree.map(lambda leaf: jnp.zeros((needed, *leaf.shape), leaf.dtype), z)
        return stage_slopes(slope, tableau, record.starts[i], record.sizes[i], z, k)

    def advance(i: jax.Array, z: Tree, k: Tree) -> tuple[Tree, Tree]:
        own = slopes(i, z) if k is None else k
        z = add(z, record.sizes[i], tableau.b, own)
        return z, None if k is None else slopes(i + 1, z)

    def step(i: jax.Array, bars: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
        index = steps - 1 - i
        kept = (index + 1) * needed <= _slots(room)
        z, k = record.read(index, advance, needless=kept)
        k = slopes(index, z) if k is None else k

        def through(
            i: jax.Array, integrated: Integrated, s: jax.Array, z: Tree, bars: Tree
        ) -> tuple[Tree, Tree]:
            if not room:
                return pull_back_again(field, integrated, s, z, bars)
            leaves = lax.cond(
                kept,
                lambda: [rows[index * needed + i] for rows in room],
                lambda: field.taped(s, z)[1],
            )
            return field.pull_back(s, z)(leaves)(bars)

        s, h = record.starts[index], record.sizes[index]
        taken = Taken(s, h, z, k, part_within(s, h) if _interpolates(solver) else None)
        return pull_back(through, tableau, taken, bars, q_bar)

    start = z_bar, jax.tree.map(jnp.zeros_like, field.inputs)
    z_bar, inputs_bar = lax.fori_loop(0, steps, step, start)
    return (z_bar, q_bar), inputs_bar


def pull_back_again(
    field: TapedField, integrated: Integrated, s: jax.Array, z: Tree, bars: tuple[Tree, Tree]
) -> tuple[Tree, Tree]:
    """Cotangents of z and of the inputs, the rates evaluated once more."""

    def rates(z: Tree, inputs: Tree) -> tuple[Tree, Tree]:
        return field.rates(s, z, inputs, field.fixed)

    def of_rates() -> tuple[Tree, Tree]:
        cotangents: tuple[Tree, Tree] = jax.vjp(rates, z, field.inputs)[1](bars)
        return cotangents

    def of_slope() -> tuple[Tree, Tree]:
        _, vjp = jax.vjp(lambda *at: rates(*at)[0], z, field.inputs)
        cotangents: tuple[Tree, Tree] = vjp(bars[0])
        return cotangents

    return either(integrated, of_rates, of_slope)


def _slots(room: Room) -> int:
    return len(room[0]) - 1 if room else 0


def _interpolates(solver: NativeSolver) -> bool:
    return isinstance(solver, AdaptiveSolver) and solver.end == "interpolate"


def _counted(stats: Stats, solver: NativeSolver, tape: Tape) -> Stats:
    """With the evaluations that the backward pass differentiates, and does again."""
    (record, room), steps = tape, stats.accepted
    needed = TABLEAUX[solver.name].evaluations_per_step
    kept = jnp.minimum(steps, _slots(room) // needed)
    again = steps - kept + record.recomputed(steps) - record.recomputed(kept)
    vjp, recompute = needed * steps, needed * again
    if record.kept[1] is None:
        recompute = recompute + needed * steps
    if _interpolates(solver):
        # The last stage of a step that passes the end.
        last = part_within(record.starts[steps - 1], record.sizes[steps - 1]) < 1
        vjp, recompute = vjp + last, recompute + (last & (kept < steps))
    return stats._replace(vjp=vjp, recompute=recompute)
