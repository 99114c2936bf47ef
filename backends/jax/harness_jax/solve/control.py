"""Step-size control: error norms, the first step, the controller (docs/numerics.md, section 1).

No gradient flows through a step size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from harness.solvers import TABLEAUX, Tableau
from harness.trial import AdaptiveSolver
from harness_jax.solve.problem import (
    InitialValue,
    Leaves,
    Tree,
    time_dtype,
)

__all__ = [
    "Norm",
    "all_finite",
    "end_weights",
    "error_norm",
    "first_step",
    "next_step",
    "scaled_norm",
]


Norm = Callable[[Tree], jax.Array]
"""Size of scaled arrays shaped like a state."""


NormName = Literal["mixed", "rms_all"]


def error_norm(kind: NormName, leaves: Leaves) -> Norm:
    """`mixed`: the largest RMS of an array; `rms_all`: one RMS over all entries of all arrays."""

    def mixed(y: Tree) -> jax.Array:
        sums, sizes = leaves.squares(y)
        return jnp.sqrt(jnp.max(sums / jnp.asarray(sizes, sums.dtype)))

    def rms_all(y: Tree) -> jax.Array:
        sums, sizes = leaves.squares(y)
        return jnp.sqrt(jnp.sum(sums) / sum(sizes))

    return mixed if kind == "mixed" else rms_all


def all_finite(y: Tree) -> jax.Array:
    """True if every entry of every leaf is finite."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(y)]).all()


def scaled(error: Tree, solver: AdaptiveSolver, *states: Tree) -> Tree:
    """Returns error / (atol + rtol * max over the states of |y|)."""

    def divide(leaf: jax.Array, *around: jax.Array) -> jax.Array:
        size = jnp.abs(around[0])
        for other in around[1:]:
            size = jnp.maximum(size, jnp.abs(other))
        return leaf / (solver.atol + solver.rtol * size)

    return jax.tree.map(divide, error, *states)


def scaled_norm(solver: AdaptiveSolver, leaves: Leaves) -> Callable[..., jax.Array]:
    """(state, other states...) -> size of the state relative to the tolerances at the others."""
    norm = error_norm(solver.norm, leaves)
    return lambda y, *others: norm(scaled(leaves.seen(y), solver, *map(leaves.seen, others)))


def first_step(
    evaluate: Callable[[Tree, jax.Array, jax.Array, Tree], tuple[Tree, Tree]],
    problem: InitialValue,
    solver: AdaptiveSolver,
    wanted: jax.Array,
    tape: Tree,
) -> tuple[jax.Array, Tree, Tree]:
    """The heuristic of Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.4,
    with the constants of torchdiffeq 0.2.5; in units of s at most 1, unless the solve may step
    past it.

    It is not invariant under a scaling of time, so it works in t, as both libraries do: on rates
    that are divided by the length of the solve in t, with a result that is, too. Its two
    evaluations share a loop, so that the field is compiled once.

    Arguments:
        evaluate: (tape, 0 or 1, s, y) -> (rates, tape).
        problem: What is integrated.
        solver: Tolerances and order.
        wanted: 1, or 0 to spare both evaluations; what is returned is then meaningless.
        tape: What goes round with the evaluations.

    Returns:
        The step, f(y0), and the tape.
    """
    y0, size = problem.y0, scaled_norm(solver, problem.leaves)
    count = 2 * wanted
    zeros, zero = jax.tree.map(jnp.zeros_like, y0), jnp.zeros((), time_dtype(y0))
    length = problem.length(problem.inputs, problem.fixed).astype(zero.dtype)

    def look_ahead(f0: Tree) -> jax.Array:
        d0, d1 = size(y0, y0), size(f0, y0) / length
        return jnp.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1).astype(zero.dtype)

    def visit(i: jax.Array, carry: tuple[Tree, Tree, jax.Array, Tree]) -> Any:  # noqa: ANN401
        f0, _, h, tape = carry
        s = h / length
        f, tape = evaluate(tape, i, s, jax.tree.map(lambda y, f: y + s * f, y0, f0))
        f0 = jax.tree.map(lambda new, old: jnp.where(i == 0, new, old), f, f0)
        return f0, f, look_ahead(f0), tape

    f0, f1, h, tape = lax.fori_loop(0, count, visit, (zeros, zeros, zero, tape))
    d1 = size(f0, y0) / length
    d2 = size(jax.tree.map(jnp.subtract, f1, f0), y0) / length / h
    largest = jnp.maximum(d1, d2)
    h1 = jnp.where(
        largest <= 1e-15,
        jnp.maximum(1e-6, h * 1e-3),
        (0.01 / largest) ** (1 / TABLEAUX[solver.name].order),
    )
    step = jnp.minimum(100 * h, h1) / length
    if solver.end == "stop":
        step = jnp.minimum(step, 1)
    return step.astype(h.dtype), f0, tape


def end_weights(tableau: Tableau, x: jax.Array) -> jax.Array:
    """Weights w of the stages in y(s + x h) = y + h sum_j w_j k_j, [stages]; exactly b at x = 1.

    y is the polynomial of degree 4 through both ends, with their slopes, and through the state
    halfway, y + h sum_j m_j k_j.

    Arguments:
        tableau: An FSAL pair with weights m, `Tableau.middle`.
        x: Place within the step, in [0, 1].
    """
    b, middle = (jnp.asarray(row, x.dtype) for row in (tableau.b, tableau.middle))
    of_end = x**2 * (-5 + x * (14 - 8 * x))
    of_middle = 16 * x**2 * (1 - x) ** 2
    weights = of_end * b + of_middle * middle
    weights = weights.at[0].add(x * (1 + x * (-4 + x * (5 - 2 * x))))
    return weights.at[-1].add(x**2 * (1 + x * (-3 + 2 * x)))


def next_step(h: jax.Array, ratio: jax.Array, tableau: Tableau) -> jax.Array:
    """The step to try after one of size `h` with this error ratio; accepted if at most 1."""
    factor = 0.9 * ratio ** (-1 / tableau.order)
    return h * jnp.where(ratio <= 1, jnp.clip(factor, 1, 10), jnp.clip(factor, 0.2, 1))
