"""Step-size control: error norms, the first step, the controller (docs/numerics.md, section 1).

No gradient flows through a step size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from harness.solvers import TABLEAUX, Tableau
from harness.trial import AdaptiveSolver, SolverSpec

__all__ = [
    "FAILURES",
    "MAX_STEPS",
    "NON_FINITE",
    "UNDERFLOW",
    "Field",
    "Leaves",
    "Norm",
    "Stats",
    "Tree",
    "all_finite",
    "error_norm",
    "evaluations",
    "first_step",
    "next_step",
    "scaled",
    "state_leaves",
    "time_dtype",
]

Tree = Any
"""A pytree of arrays. As a state: (z, a, r...) of a flow, (z,) of a sample, or an adjoint's."""

Field = Callable[[jax.Array, Tree, Tree, Tree], Tree]
"""`field(s, y, inputs, fixed) -> dy/ds`; differentiable in y and inputs, never in fixed."""

Norm = Callable[[Tree], jax.Array]
"""Size of scaled arrays shaped like a state."""

Leaves = Callable[[Tree], Sequence[jax.Array]]
"""State -> the leaves that the error norm sees."""

NormName = Literal["mixed", "rms_all"]

FAILURES = (None, "max_steps", "non-finite", "underflow")
"""Reasons by code, as `StepReport.failure` gives them."""
MAX_STEPS, NON_FINITE, UNDERFLOW = 1, 2, 3


class Stats(NamedTuple):
    """What a solve did, as scalars.

    Arguments:
        accepted: Accepted steps, int32.
        rejected: Rejected steps, int32.
        evaluations: Evaluations of the field, rejected steps and the heuristic included, int32.
        first_step: Size of the first attempted step.
        failure: Index into `FAILURES`, int32.
    """

    accepted: jax.Array
    rejected: jax.Array
    evaluations: jax.Array
    first_step: jax.Array
    failure: jax.Array


def error_norm(kind: NormName, leaves: Leaves) -> Norm:
    """`mixed`: the largest RMS of a leaf; `rms_all`: one RMS over all entries of all leaves."""

    def mixed(y: Tree) -> jax.Array:
        return jnp.max(jnp.stack([jnp.sqrt(jnp.mean(leaf * leaf)) for leaf in leaves(y)]))

    def rms_all(y: Tree) -> jax.Array:
        total = jnp.stack([jnp.sum(leaf * leaf) for leaf in leaves(y)]).sum()
        return jnp.sqrt(total / sum(leaf.size for leaf in leaves(y)))

    return mixed if kind == "mixed" else rms_all


def state_leaves(y: Tree) -> Sequence[jax.Array]:
    """The error norm of a flow's state (z, a, r...) sees z and a; that of a sample's (z,), z."""
    leaves: Sequence[jax.Array] = y[:2]
    return leaves


def evaluations(solver: SolverSpec, attempted: jax.Array, heuristic: bool) -> jax.Array:
    """Evaluations of the field in so many attempted steps."""
    # The tableau's count is linear in the steps, so it holds for traced numbers as well.
    steps: Any = attempted
    counted: jax.Array = jnp.asarray(TABLEAUX[solver.name].evaluations(steps, heuristic))
    return counted


def time_dtype(y: Tree) -> jnp.dtype:
    """The precision of s: that of the state."""
    return jnp.result_type(*jax.tree.leaves(y))


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
    field: Callable[[jax.Array, Tree], Tree],
    y0: Tree,
    f0: Tree,
    solver: AdaptiveSolver,
    norm: Norm,
) -> jax.Array:
    """The first step in units of s, at most 1.

    The heuristic is that of Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I,
    II.4, with the constants of torchdiffeq 0.2.5.
    """
    dtype = time_dtype(y0)
    if solver.first_step != "heuristic":
        return jnp.asarray(1.0 if solver.first_step == "whole" else solver.first_step, dtype)
    d0 = norm(scaled(y0, solver, y0))
    d1 = norm(scaled(f0, solver, y0))
    h0 = jnp.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1).astype(dtype)
    f1 = field(h0, jax.tree.map(lambda y, f: y + h0 * f, y0, f0))
    d2 = norm(scaled(jax.tree.map(jnp.subtract, f1, f0), solver, y0)) / h0
    largest = jnp.maximum(d1, d2)
    h1 = jnp.where(
        largest <= 1e-15,
        jnp.maximum(1e-6, h0 * 1e-3),
        (0.01 / largest) ** (1 / TABLEAUX[solver.name].order),
    )
    return jnp.minimum(jnp.minimum(100 * h0, h1), 1).astype(dtype)


def next_step(h: jax.Array, ratio: jax.Array, tableau: Tableau) -> jax.Array:
    """The step to try after one of size `h` with this error ratio; accepted if at most 1."""
    factor = 0.9 * ratio ** (-1 / tableau.order)
    return h * jnp.where(ratio <= 1, jnp.clip(factor, 1, 10), jnp.clip(factor, 0.2, 1))
