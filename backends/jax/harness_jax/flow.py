"""The flow: stacked blocks, each a solve over s in [0, 1] of dy/ds = T f(T s, y).

log p(x) = log N(z(1); 0, I) - a(1), a the integral of -Tr(df/dz) carried through the blocks
(W. Grathwohl et al., FFJORD, 2018, https://arxiv.org/abs/1810.01367, eq. 4).

All blocks have the same shapes, so their arrays are stacked and one `lax.scan` runs over them: one
block is compiled, however many there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from harness.trial import GradientName, ModelSpec, RegularizerName, SolverSpec, TraceName
from harness_jax.control import Stats, Tree, state_leaves
from harness_jax.dynamics import Augmented, Dynamics
from harness_jax.gradients import Engine, solve_block

__all__ = ["SQRT_END_TIME", "Flow", "Terms", "log_standard_normal"]

SQRT_END_TIME = "sqrt_end_time"

Stacked = Mapping[str, jax.Array]


class Terms(NamedTuple):
    """The end of the flow.

    Arguments:
        z: Base variables, [batch, D].
        a: Integral of -Tr(df/dz), [batch].
        r: Integrals of the regularizers, [batch] each.
        stats: What the solves did; entries [blocks].
    """

    z: jax.Array
    a: jax.Array
    r: Sequence[jax.Array]
    stats: Stats


class Inputs(NamedTuple):
    """What a block's field depends on; the end time is here if it is trained, else in `Fixed`."""

    arrays: Stacked
    T: jax.Array | None


class Fixed(NamedTuple):
    """What a block's field depends on without a gradient."""

    T: jax.Array | None
    eps: jax.Array | None


def log_standard_normal(z: jax.Array) -> jax.Array:
    """Log N(z; 0, I) of each row, [batch]."""
    return -0.5 * (jnp.sum(z * z, axis=1) + z.shape[1] * math.log(2 * math.pi))


@dataclass(frozen=True)
class Flow:
    """All blocks of a model, apart from their arrays.

    Arguments:
        model: The architecture.
        regularizers: Names of the integrals to carry, in the order of `Terms.r`.
        engine: Who takes the solver's steps.
    """

    model: ModelSpec
    regularizers: Sequence[RegularizerName]
    engine: Engine

    def log_prob_terms(
        self,
        arrays: Stacked,
        x: jax.Array,
        probes: jax.Array | None,
        solver: SolverSpec,
        trace: TraceName,
        *,
        mode: GradientName | None = None,
        ledger: jax.Array | None = None,
        regularize: bool = False,
    ) -> Terms:
        """Runs x [batch, D] through all blocks with the divergence.

        Arguments:
            arrays: All arrays by portable name without the block, [blocks, ...] each.
            x: Data.
            probes: [blocks, batch, D], where trace or regularizers need them.
            solver: Method and tolerances.
            trace: `exact` or `hutchinson`.
            mode: Gradient mode; None for no gradient.
            ledger: `gradients.new_ledger(blocks)`, if `mode` is not None.
            regularize: Carry the regularizer integrals as well.
        """
        names = self.regularizers if regularize else ()

        def field(s: jax.Array, y: Tree, inputs: Inputs, fixed: Fixed) -> Tree:
            augmented = Augmented(trace, names, fixed.eps)
            return augmented.rates(self._dynamics(inputs), _end_time(inputs, fixed), s, y[0])

        def block(y: Tree, own: tuple[Inputs, Fixed, jax.Array | None]) -> tuple[Tree, Stats]:
            return solve_block(self.engine, mode, field, y, *own, solver)

        zeros = jnp.zeros(x.shape[:1], x.dtype)
        start = (x, zeros, *(zeros for _ in names))
        (z, a, *r), stats = lax.scan(block, start, (*self._split(arrays, probes), ledger))
        return Terms(z, a, r, stats)

    def transport(
        self, arrays: Stacked, z: jax.Array, solver: SolverSpec, *, inverse: bool
    ) -> tuple[jax.Array, Stats]:
        """Maps x to z, or with `inverse` z to x, without the density; the norm is over z alone."""

        def field(s: jax.Array, y: Tree, inputs: Inputs, fixed: Fixed) -> Tree:
            T = _end_time(inputs, fixed)
            sign, t = (-T, T * (1 - s)) if inverse else (T, T * s)
            return (sign * self._dynamics(inputs).value(t, y[0]),)

        def block(y: Tree, own: tuple[Inputs, Fixed]) -> tuple[Tree, Stats]:
            return self.engine.solve(field, y, *own, solver, state_leaves)

        (end,), stats = lax.scan(block, (z,), self._split(arrays, None), reverse=inverse)
        return end, stats

    def _dynamics(self, inputs: Inputs) -> Dynamics:
        return Dynamics(self.model.layer, self.model.nonlinearity, inputs.arrays)

    def _split(self, arrays: Stacked, probes: jax.Array | None) -> tuple[Inputs, Fixed]:
        """Splits the arrays by whether a gradient is wanted."""
        rest = {name: array for name, array in arrays.items() if name != SQRT_END_TIME}
        T = arrays[SQRT_END_TIME] ** 2
        if self.model.end_time.mode == "trained":
            return Inputs(rest, T), Fixed(None, probes)
        return Inputs(rest, None), Fixed(T, probes)


def _end_time(inputs: Inputs, fixed: Fixed) -> jax.Array:
    T = fixed.T if inputs.T is None else inputs.T
    if T is None:
        raise ValueError("a block without an end time")
    return T
