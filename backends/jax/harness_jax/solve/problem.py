"""What a solve integrates: fields, their inputs, states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from harness.trial import (
    AdaptiveSolver,
    FixedSolver,
    SolverSpec,
)

__all__ = [
    "Field",
    "InitialValue",
    "Inputs",
    "Leaves",
    "NativeSolver",
    "Rates",
    "Reversed",
    "StateLeaves",
    "Tree",
    "join",
    "leaves_for",
    "length_of",
    "rates_of",
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


class Leaves(Protocol):
    """What the error norm sees of a state."""

    def seen(self, y: Tree) -> Tree:
        """The part that it sees, before it is scaled by the tolerances; linear."""

    def squares(self, y: Tree) -> tuple[jax.Array, Sequence[int]]:
        """Of that part or a whole state: sum of squares and number of entries of each array."""


@dataclass(frozen=True)
class StateLeaves:
    """Of a state (z, q) the error norm sees z and a, the first row of q if it has any.

    Arguments:
        means: It sees the batch mean of each further row, too, which is what FFJORD's released
            code integrates.
    """

    means: bool = False

    def seen(self, y: Tree) -> Tree:
        """See `Leaves`."""
        z, q = y
        means = jnp.mean(q[1:], axis=1) if self.means else q[:0, 0]
        return z, q[:1], means

    def squares(self, y: Tree) -> tuple[jax.Array, Sequence[int]]:
        """See `Leaves`."""
        z, q, *means = y
        leaves = [z, *q[:1], *(means[0] if means else ())]
        return sums_of_squares(leaves), [leaf.size for leaf in leaves]


def leaves_for(solver: SolverSpec) -> StateLeaves:
    """What the solver's error norm sees of a flow's state."""
    return StateLeaves(isinstance(solver, AdaptiveSolver) and solver.regularizers_in_norm)


def unit_length(inputs: Tree, fixed: Tree) -> jax.Array:
    """The length of a solve whose own time is t."""
    del inputs, fixed
    return jnp.ones(())


def length_of(inputs: Inputs, fixed: Inputs) -> jax.Array:
    """Length of a block's solve in the time t of the block."""
    every = join(inputs, fixed)
    assert every.T is not None and every.span is not None  # noqa: S101, PT018
    return lax.stop_gradient(every.T * every.span)


def sums_of_squares(leaves: Sequence[jax.Array]) -> jax.Array:
    """One entry a leaf."""
    return jnp.stack([jnp.sum(leaf * leaf) for leaf in leaves])


class InitialValue(NamedTuple):
    """What a solve integrates from s = 0 to 1.

    Arguments:
        rates: The right-hand side.
        y0: Initial state (z, q).
        inputs: Differentiable inputs of the right-hand side.
        fixed: Its other inputs.
        leaves: What the error norm sees.
        h0: Replaces the solver's rule for the first step at no cost, unless it is 0.
        length: (inputs, fixed) -> what s from 0 to 1 is in the time t of the block; the rule for
            the first step works in t.
    """

    rates: Rates
    y0: tuple[Tree, Tree]
    inputs: Tree
    fixed: Tree
    leaves: Leaves = StateLeaves()
    h0: jax.Array | None = None
    length: Callable[[Tree, Tree], jax.Array] = unit_length


@dataclass(frozen=True)
class Reversed:
    """The field that runs from s = 1 to 0, over its own time 0 to 1."""

    field: Field

    def __call__(self, inputs: Inputs, s: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `Field`."""
        dz, dq = self.field(inputs, 1 - s, z)
        return -dz, -dq


NativeSolver = AdaptiveSolver | FixedSolver
"""A solver of `harness.solvers`, which all engines share."""


def time_dtype(y: Tree) -> jnp.dtype:
    """The precision of s: that of the state."""
    return jnp.result_type(*jax.tree.leaves(y))


def rates_of(field: Field) -> Rates:
    """The field over states (z, q). Jitted because a solve evaluates it in many places: so it is
    traced and linearised once.
    """
    return jax.jit(lambda s, z, inputs, fixed: field(join(inputs, fixed), s, z), inline=True)
