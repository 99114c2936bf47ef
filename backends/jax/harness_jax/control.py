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
from harness.trial import AdaptiveSolver, FixedSolver

__all__ = [
    "FAILURES",
    "MAX_STEPS",
    "NON_FINITE",
    "UNDERFLOW",
    "Field",
    "Inputs",
    "NativeSolver",
    "Norm",
    "Problem",
    "Rates",
    "Squares",
    "Stats",
    "Tree",
    "all_finite",
    "error_norm",
    "evaluations",
    "first_step",
    "join",
    "next_step",
    "scaled",
    "state_squares",
    "sums_of_squares",
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
    mine = {name: value for name, value in inputs._asdict().items() if value is not None}
    return fixed._replace(**mine)


Field = Callable[[Inputs, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""`field(inputs, s, z) -> (dz/ds, dq/ds)`, q [rows, batch]: a, then the regularizers; no rows for
a sample. s in [0, 1] is the solve's own."""

Rates = Callable[[jax.Array, Tree, Tree, Tree], tuple[Tree, Tree]]
"""`rates(s, z, inputs, fixed) -> (dz/ds, dq/ds)` of a state y = (z, q) whose rates depend on z
alone; differentiable in z and inputs, never in fixed."""

Norm = Callable[[Tree], jax.Array]
"""Size of scaled arrays shaped like a state."""

Squares = Callable[[Tree], tuple[jax.Array, Sequence[int]]]
"""State -> sum of squares and number of entries of each array that the error norm sees."""


class Problem(NamedTuple):
    """What a solve integrates from s = 0 to 1.

    Arguments:
        rates: The right-hand side.
        y0: Initial state (z, q).
        inputs: Differentiable inputs of the right-hand side.
        fixed: Its other inputs.
        squares: What the error norm sees.
        h0: Replaces the solver's rule for the first step at no cost, unless it is 0.
    """

    rates: Rates
    y0: tuple[Tree, Tree]
    inputs: Tree
    fixed: Tree
    squares: Squares
    h0: jax.Array | None = None


NativeSolver = AdaptiveSolver | FixedSolver
"""A solver of `harness.solvers`, which all engines share."""

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
        vjp: Evaluations that the backward pass differentiates, modes `direct` and `checkpoint`.
        recompute: Evaluations that it does again.
    """

    accepted: jax.Array
    rejected: jax.Array
    evaluations: jax.Array
    first_step: jax.Array
    proposed: jax.Array
    largest: jax.Array
    failure: jax.Array
    vjp: jax.Array
    recompute: jax.Array


def error_norm(kind: NormName, squares: Squares) -> Norm:
    """`mixed`: the largest RMS of an array; `rms_all`: one RMS over all entries of all arrays."""

    def mixed(y: Tree) -> jax.Array:
        sums, sizes = squares(y)
        return jnp.sqrt(jnp.max(sums / jnp.asarray(sizes, sums.dtype)))

    def rms_all(y: Tree) -> jax.Array:
        sums, sizes = squares(y)
        return jnp.sqrt(jnp.sum(sums) / sum(sizes))

    return mixed if kind == "mixed" else rms_all


def state_squares(y: Tree) -> tuple[jax.Array, Sequence[int]]:
    """Of a state (z, q) the error norm sees z and a, the first row of q if it has any."""
    z, q = y
    leaves = [z, *q[:1]]
    return sums_of_squares(leaves), [leaf.size for leaf in leaves]


def sums_of_squares(leaves: Sequence[jax.Array]) -> jax.Array:
    """One entry a leaf."""
    return jnp.stack([jnp.sum(leaf * leaf) for leaf in leaves])


def evaluations(
    solver: NativeSolver, attempted: jax.Array, heuristic: bool | jax.Array
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


def first_step(
    evaluate: Callable[[Tree, jax.Array, jax.Array, Tree], tuple[Tree, Tree]],
    y0: Tree,
    solver: AdaptiveSolver,
    norm: Norm,
    count: jax.Array | int,
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
        count: 2; or 1 for f(y0) alone; or 0 for nothing.
        tape: What goes round with the evaluations.

    Returns:
        The step, f(y0), and the tape.
    """
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
