"""Step-size control: error norms, the first step, the controller (docs/numerics.md, section 1).

No gradient flows through a step size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from harness.solvers import TABLEAUX, Tableau
from harness.trial import AdaptiveSolver, SolverSpec

__all__ = [
    "FAILURES",
    "MAX_STEPS",
    "NON_FINITE",
    "UNDERFLOW",
    "Field",
    "Inputs",
    "Leaves",
    "Norm",
    "Rates",
    "Stats",
    "Tree",
    "all_finite",
    "choose_first_step",
    "error_norm",
    "evaluations",
    "join",
    "next_step",
    "scaled",
    "state_leaves",
    "time_dtype",
]

Tree = Any
"""A pytree of arrays. As a state: (z, q) of a flow, or that of an adjoint."""


class Inputs(NamedTuple):
    """What the field of a block is a function of, beside s and z.

    A solve gets two of them, each with None where the other has a value: what gets a gradient
    (`arrays`, and `T` if it is trained), and what does not.

    Arguments:
        arrays: Arrays of the block's dynamics by name without the block.
        T: End time.
        probe: Probe of the trace and the regularizers, fixed within a solve.
        start: The solve covers [start, start + span] of the block's [0, 1]; 0 but for `tpr`.
        span: See `start`; 1 but for `tpr`.
    """

    arrays: Mapping[str, jax.Array] | None = None
    T: jax.Array | None = None
    probe: jax.Array | None = None
    start: jax.Array | None = None
    span: jax.Array | None = None


def join(inputs: Inputs, fixed: Inputs) -> Inputs:
    """All inputs of a field, from the two halves that a solve gets."""
    return Inputs(*(b if a is None else a for a, b in zip(inputs, fixed, strict=True)))


Field = Callable[[Inputs, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""`field(inputs, s, z) -> (dz/ds, dq/ds)`, q [rows, batch]: a, then the regularizers; no rows for
a sample. s in [0, 1] is the solve's own."""

Rates = Callable[[jax.Array, Tree, Tree, Tree], Tree]
"""`rates(s, y, inputs, fixed) -> dy/ds`; differentiable in y and inputs, never in fixed."""

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
        proposed: Size of the last step before it was cut to land on the end.
        largest: Size of the largest accepted step; 0 if there is none.
        failure: Index into `FAILURES`, int32.
    """

    accepted: jax.Array
    rejected: jax.Array
    evaluations: jax.Array
    first_step: jax.Array
    proposed: jax.Array
    largest: jax.Array
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
    """Of a state (z, q) the error norm sees z and a, the first row of q if it has any."""
    z, q = y
    return (z, *q[:1])


def evaluations(
    solver: SolverSpec, attempted: jax.Array, heuristic: bool | jax.Array
) -> jax.Array:
    """Evaluations of the field in so many attempted steps."""
    # The tableau's count is linear in the steps, so it holds for traced numbers as well.
    steps: Any = attempted
    counted: jax.Array = jnp.asarray(TABLEAUX[solver.name].evaluations(steps, heuristic=False))
    return counted + jnp.asarray(heuristic, counted.dtype)


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


def choose_first_step(
    flow: Callable[[jax.Array, Tree], Tree],
    y0: Tree,
    f0: Tree,
    solver: AdaptiveSolver,
    leaves: Leaves,
    h0: jax.Array | None,
    rule: bool,
) -> tuple[jax.Array, jax.Array]:
    """The first step in units of s, and whether the heuristic found it.

    Arguments:
        flow: Right-hand side, a function of (s, y).
        y0: Initial state.
        f0: flow(0, y0).
        solver: Its rule decides where `h0` is None or 0.
        leaves: What the error norm sees.
        h0: A step that replaces the rule.
        rule: False promises that `h0` is not 0, and so spares compiling the rule.
    """
    if h0 is not None and not rule:
        return h0, jnp.asarray(False)
    heuristic = solver.first_step in ("heuristic", "warm")

    def by_rule() -> jax.Array:
        if heuristic:
            return _heuristic(flow, y0, f0, solver, error_norm(solver.norm, leaves))
        return jnp.asarray(
            1.0 if solver.first_step == "whole" else solver.first_step, time_dtype(y0)
        )

    if h0 is None:
        return by_rule(), jnp.asarray(heuristic)
    return lax.cond(h0 == 0, by_rule, lambda: h0), heuristic & (h0 == 0)


def _heuristic(
    flow: Callable[[jax.Array, Tree], Tree],
    y0: Tree,
    f0: Tree,
    solver: AdaptiveSolver,
    norm: Norm,
) -> jax.Array:
    """The rule of Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.4, with
    the constants of torchdiffeq 0.2.5; at most 1.
    """
    dtype = time_dtype(y0)
    d0 = norm(scaled(y0, solver, y0))
    d1 = norm(scaled(f0, solver, y0))
    h0 = jnp.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1).astype(dtype)
    f1 = flow(h0, jax.tree.map(lambda y, f: y + h0 * f, y0, f0))
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
