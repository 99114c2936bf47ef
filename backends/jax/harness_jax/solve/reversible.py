"""A solve by a pair of states that can be followed back exactly, so that its gradient needs
nothing of it but the last pair.

S. McCallum, J. Foster, Efficient, accurate and stable gradients for neural ODEs, 2024,
https://arxiv.org/abs/2410.11648. With Psi_h(s, y) the increment of a step of the method, y = w at
the start:

    y1 = c y + (1 - c) w + Psi_h(s, w),  w1 = w - Psi_{-h}(s + h, y1),  c = 0.999;
    back: w = w1 + Psi_{-h}(s + h, y1),  y = (y1 - (1 - c) w - Psi_h(s, w)) / c.

The end of y is that of the solve. Integrals go along in the same way, but as no rate depends on
them they need not be followed back.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from harness.solvers import REVERSIBLE_COUPLING, TABLEAUX
from harness.trial import FixedSolver
from harness_jax.solve.backprop import pull_back_again
from harness_jax.solve.control import all_finite
from harness_jax.solve.counts import NON_FINITE, Stats
from harness_jax.solve.problem import InitialValue, NativeSolver, Tree, time_dtype
from harness_jax.solve.step import (
    Integrated,
    Start,
    Taken,
    pull_back_increment,
    rates_where,
    stage_slopes,
    take_step,
    weighted,
)
from harness_jax.solve.tape import TapedField

__all__ = ["solve_reversible"]

C = REVERSIBLE_COUPLING


def solve_reversible(
    problem: InitialValue, solver: NativeSolver
) -> tuple[tuple[Tree, Tree], Stats]:
    """Solves, differentiable in the problem's y0 and inputs.

    Arguments:
        problem: What is integrated.
        solver: Method and number of steps.
    """
    if not isinstance(solver, FixedSolver):
        raise ValueError("a reversible pair takes equal steps")

    @jax.custom_vjp
    def solved(y0: Tree, inputs: Tree, fixed: Tree) -> tuple[Tree, Tree]:
        return _forward(TapedField(problem.rates, inputs, fixed), y0, solver)

    def forward(y0: Tree, inputs: Tree, fixed: Tree) -> tuple[Tree, Tree]:
        y, w = solved(y0, inputs, fixed)
        return (y, w), (y[0], w, inputs, fixed)

    def backward(saved: Tree, cotangents: Tree) -> tuple[Tree, ...]:
        y, w, inputs, fixed = saved
        field = TapedField(problem.rates, inputs, fixed)
        return *_backward(field, (y, w), cotangents[0], solver), None

    solved.defvjp(forward, backward)
    y, _ = solved(problem.y0, problem.inputs, problem.fixed)
    return y, _stats(y, solver)


def _forward(field: TapedField, y0: tuple[Tree, Tree], solver: FixedSolver) -> tuple[Tree, Tree]:
    """(z, q) of y, and z of w, at s = 1."""
    tableau, h = TABLEAUX[solver.name], jnp.asarray(1 / solver.steps, time_dtype(y0))
    z0, q0 = y0
    k = jax.tree.map(lambda leaf: jnp.zeros((tableau.stages, *leaf.shape), leaf.dtype), z0)
    ends = jax.tree.map(lambda leaf: jnp.zeros((2, *leaf.shape), leaf.dtype), q0)
    nothing = jax.tree.map(jnp.zeros_like, q0)

    def evaluate(
        tape: Tree, index: jax.Array, integrated: Integrated, s: jax.Array, z: Tree
    ) -> tuple[Tree, Tree, Tree]:
        del index
        return *rates_where(integrated, field.rates, s, z, field.inputs, field.fixed), tape

    def increment(s: jax.Array, h: jax.Array, z: Tree) -> tuple[Tree, Tree]:
        start = Start(s, h, s + h, z, nothing, k, ends, known=0)
        step = take_step(evaluate, tableau, start, None)
        return jax.tree.map(lambda rate: h * rate, weighted(tableau.b, step.k)), step.q

    def advance(i: jax.Array, pair: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
        y, w = pair
        s, end = (index.astype(h.dtype) / solver.steps for index in (i, i + 1))
        on = increment(s, h, w[0])
        y = jax.tree.map(lambda y, w, on: C * y + (1 - C) * w + on, y, w, on)
        return y, jax.tree.map(jnp.subtract, w, increment(end, -h, y[0]))

    y, w = lax.fori_loop(0, solver.steps, advance, (y0, y0))
    return y, w[0]


def _backward(
    field: TapedField, pair: tuple[Tree, Tree], bars: tuple[Tree, Tree], solver: FixedSolver
) -> tuple[Tree, Tree]:
    """Cotangents of the initial state and of the inputs, from the states z of y and w at s = 1."""
    tableau, h = TABLEAUX[solver.name], jnp.asarray(1 / solver.steps, time_dtype(pair))
    z_bar, q_bar = bars

    def slope(s: jax.Array, z: Tree) -> Tree:
        return field.rates(s, z, field.inputs, field.fixed)[0]

    def through(
        i: jax.Array, integrated: Integrated, s: jax.Array, z: Tree, bars: tuple[Tree, Tree]
    ) -> tuple[Tree, Tree]:
        del i
        return pull_back_again(field, integrated, s, z, bars)

    def increment(
        s: jax.Array, h: jax.Array, z: Tree, bar: Tree, q_bar: Tree, inputs_bar: Tree
    ) -> tuple[Tree, Tree, Tree]:
        """The increment of z in a step, the cotangent of its start that comes by it, and those of
        the inputs.
        """
        needed = tableau.evaluations_per_step
        k = jax.tree.map(lambda leaf: jnp.zeros((needed, *leaf.shape), leaf.dtype), z)
        k = stage_slopes(slope, tableau, s, h, z, k)
        taken = Taken(s, h, z, k)
        share, inputs_bar = pull_back_increment(through, tableau, taken, (bar, inputs_bar), q_bar)
        gained = jax.tree.map(lambda rate: h * rate, weighted(tableau.b[:needed], k))
        return gained, share, inputs_bar

    def step(r: jax.Array, carry: Tree) -> Tree:
        y, w, (y_bar, w_bar), (qy_bar, qw_bar), inputs_bar = carry
        i = solver.steps - 1 - r
        s, end = (index.astype(h.dtype) / solver.steps for index in (i, i + 1))
        minus_z, minus_q = jax.tree.map(jnp.negative, (w_bar, qw_bar))
        back, share, inputs_bar = increment(end, -h, y, minus_z, minus_q, inputs_bar)
        w, y_bar = jax.tree.map(jnp.add, (w, y_bar), (back, share))
        on, share, inputs_bar = increment(s, h, w, y_bar, qy_bar, inputs_bar)
        y = jax.tree.map(lambda y, w, on: (y - (1 - C) * w - on) / C, y, w, on)
        w_bar = jax.tree.map(lambda w, y, share: w + (1 - C) * y + share, w_bar, y_bar, share)
        qw_bar = jax.tree.map(lambda w, y: w + (1 - C) * y, qw_bar, qy_bar)
        y_bar, qy_bar = jax.tree.map(lambda bar: C * bar, (y_bar, qy_bar))
        return y, w, (y_bar, w_bar), (qy_bar, qw_bar), inputs_bar

    zeros = jax.tree.map(jnp.zeros_like, (z_bar, q_bar, field.inputs))
    start = *pair, (z_bar, zeros[0]), (q_bar, zeros[1]), zeros[2]
    _, _, z_bars, _, inputs_bar = lax.fori_loop(0, solver.steps, step, start)
    return (jax.tree.map(jnp.add, *z_bars), q_bar), inputs_bar


def _stats(y: tuple[Tree, Tree], solver: FixedSolver) -> Stats:
    """What a solve did, and what its backward pass does: each increment anew, and differentiated
    by evaluations done once more.
    """
    tableau = TABLEAUX[solver.name]
    pulled = 2 * solver.steps * tableau.evaluations_per_step
    evaluations = 2 * tableau.evaluations(solver.steps, heuristic=False)
    steps, none, taken, vjp, recompute = (
        jnp.asarray(n, jnp.int32) for n in (solver.steps, 0, evaluations, pulled, 2 * pulled)
    )
    h = jnp.asarray(1 / solver.steps, time_dtype(y))
    failure = jnp.where(all_finite(y), 0, NON_FINITE).astype(jnp.int32)
    return Stats(steps, none, taken, h, h, h, failure, vjp, recompute)
