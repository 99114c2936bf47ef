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
from harness_jax.control import Inputs, Stats
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


@dataclass(frozen=True)
class Density:
    """The field of a block with its divergence and regularizers; equal blocks have equal fields.

    Arguments:
        model: The architecture.
        trace: `exact` or `hutchinson`.
        regularizers: Names of the integrals, in the order of the rows of q after a.
    """

    model: ModelSpec
    trace: TraceName
    regularizers: tuple[RegularizerName, ...] = ()

    def __call__(self, inputs: Inputs, s: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """T (f, (-divergence, integrands...)) at t = T s, both times the span of the piece."""
        dynamics, T, s = _at(self.model, inputs, s)
        augmented = Augmented(self.trace, self.regularizers, inputs.probe)
        dz, *dq = augmented.rates(dynamics, T, s, z)
        return inputs.span * dz, inputs.span * jnp.stack(dq)


@dataclass(frozen=True)
class Transport:
    """The field of a block alone, from data to base or with `inverse` from base to data."""

    model: ModelSpec
    inverse: bool

    def __call__(self, inputs: Inputs, s: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """T f at t = T s, or -T f at t = T (1 - s); no rows of integrals."""
        dynamics, T, s = _at(self.model, inputs, s)
        sign, t = (-T, T * (1 - s)) if self.inverse else (T, T * s)
        return inputs.span * sign * dynamics.value(t, z), jnp.zeros((0, len(z)), z.dtype)


def _at(model: ModelSpec, inputs: Inputs, s: jax.Array) -> tuple[Dynamics, jax.Array, jax.Array]:
    """The dynamics, T, and s as the whole block counts it."""
    if inputs.arrays is None or inputs.T is None or inputs.start is None or inputs.span is None:
        raise ValueError("a field lacks an input")
    dynamics = Dynamics(model.layer, model.nonlinearity, inputs.arrays)
    return dynamics, inputs.T, inputs.start + inputs.span * s


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
        names = tuple(self.regularizers) if regularize else ()
        field = Density(self.model, trace, names)

        def block(
            y: tuple[jax.Array, jax.Array], own: tuple[Inputs, Inputs, jax.Array | None]
        ) -> tuple[tuple[jax.Array, jax.Array], Stats]:
            inputs, fixed, row = own
            z, q, stats = solve_block(
                self.engine, mode, field, inputs, fixed, *y, solver, ledger=row
            )
            return (z, q), stats

        q = jnp.zeros((1 + len(names), len(x)), x.dtype)
        (z, q), stats = lax.scan(block, (x, q), (*self._split(arrays, probes), ledger))
        return Terms(z, q[0], list(q[1:]), stats)

    def transport(
        self, arrays: Stacked, z: jax.Array, solver: SolverSpec, *, inverse: bool
    ) -> tuple[jax.Array, Stats]:
        """Maps x to z, or with `inverse` z to x, without the density; the norm is over z alone."""
        field = Transport(self.model, inverse)
        q = jnp.zeros((0, len(z)), z.dtype)

        def block(z: jax.Array, own: tuple[Inputs, Inputs]) -> tuple[jax.Array, Stats]:
            z, _, stats = solve_block(self.engine, None, field, *own, z, q, solver)
            return z, stats

        return lax.scan(block, z, self._split(arrays, None), reverse=inverse)

    def _split(self, arrays: Stacked, probes: jax.Array | None) -> tuple[Inputs, Inputs]:
        """Inputs of all blocks, by whether a gradient is wanted."""
        rest = {name: array for name, array in arrays.items() if name != SQRT_END_TIME}
        T = arrays[SQRT_END_TIME] ** 2
        fixed = Inputs(probe=probes, start=jnp.zeros_like(T), span=jnp.ones_like(T))
        if self.model.end_time.mode == "trained":
            return Inputs(rest, T), fixed
        return Inputs(rest), fixed._replace(T=T)
