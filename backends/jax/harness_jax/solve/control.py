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
from harness_jax.solve.problem import Squares, Tree, time_dtype

__all__ = ["Norm", "all_finite", "error_norm", "first_step", "next_step", "scaled"]


Norm = Callable[[Tree], jax.Array]
"""Size of scaled arrays shaped like a state."""


NormName = Literal["mixed", "rms_all"]


def error_norm(kind: NormName, squares: Squares) -> Norm:
    """`mixed`: the largest RMS of an array; `rms_all`: one RMS over all entries of all arrays."""

    def mixed(y: Tree) -> jax.Array:
        sums, sizes = squares(y)
        return jnp.sqrt(jnp.max(sums / jnp.asarray(sizes, sums.dtype)))

    def rms_all(y: Tree) -> jax.Array:
        sums, sizes = squares(y)
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


def first_step(
    evaluate: Callable[[Tree, jax.Array, jax.Array, Tree], tuple[Tree, Tree]],
    y0: Tree,
    solver: AdaptiveSolver,
    norm: Norm,
    wanted: jax.Array,
    tape: Tree,
) -> tuple[jax.Array, Tree, Tree]:
    """The heuristic of Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.4,
    with the constants of torchdiffeq 0.2.5; at most 1, in units of s.

    Its two evaluations share a loop, so that the field is compiled once.

    Arguments:
        evaluate: (tape, 0 or 1, s, y) -> (rates, tape).
        y0: Initial state.
        solver: Tolerances and order.
        norm: The error norm.
        wanted: 1, or 0 to spare both evaluations; what is returned is then meaningless.
        tape: What goes round with the evaluations.

    Returns:
        The step, f(y0), and the tape.
    """
    count = 2 * wanted
    zeros, zero = jax.tree.map(jnp.zeros_like, y0), jnp.zeros((), time_dtype(y0))

    def visit(i: jax.Array, carry: tuple[Tree, Tree, jax.Array, Tree]) -> Any:  # noqa: ANN401
        f0, _, h, tape = carry
        f, tape = evaluate(tape, i, h, jax.tree.map(lambda y, f: y + h * f, y0, f0))
        f0 = jax.tree.map(lambda new, old: jnp.where(i == 0, new, old), f, f0)
        return f0, f, _guess(y0, f0, solver, norm), tape

    f0, f1, h, tape = lax.fori_loop(0, count, visit, (zeros, zeros, zero, tape))
    d1 = norm(scaled(f0, solver, y0))
    d2 = norm(scaled(jax.tree.map(jnp.subtract, f1, f0), solver, y0)) / h
    largest = jnp.maximum(d1, d2)
    h1 = jnp.where(
        largest <= 1e-15,
        jnp.maximum(1e-6, h * 1e-3),
        (0.01 / largest) ** (1 / TABLEAUX[solver.name].order),
    )
    return jnp.minimum(jnp.minimum(100 * h, h1), 1).astype(h.dtype), f0, tape


def _guess(y0: Tree, f0: Tree, solver: AdaptiveSolver, norm: Norm) -> jax.Array:
    """How far the heuristic looks ahead."""
    d0 = norm(scaled(y0, solver, y0))
    d1 = norm(scaled(f0, solver, y0))
    return jnp.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1).astype(time_dtype(y0))


def next_step(h: jax.Array, ratio: jax.Array, tableau: Tableau) -> jax.Array:
    """The step to try after one of size `h` with this error ratio; accepted if at most 1."""
    factor = 0.9 * ratio ** (-1 / tableau.order)
    return h * jnp.where(ratio <= 1, jnp.clip(factor, 1, 10), jnp.clip(factor, 0.2, 1))
