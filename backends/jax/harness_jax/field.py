"""What a block's solve integrates: the velocity, and beside it -Tr(df/dz) and the regularizers
(docs/numerics.md, sections 1 and 4).

A field is a function of its inputs alone and equal blocks have equal fields, so what is compiled
for one block serves the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from harness.architecture.noise import DRAW_PHASE
from harness.architecture.transforms import Block
from harness.trial import ModelSpec, RegularizerName, TraceName
from harness_jax.net.derivatives import Derivatives
from harness_jax.net.net import Net
from harness_jax.regularizers import INTEGRANDS
from harness_jax.solve.problem import Inputs

__all__ = ["Augmented", "Velocity"]


@dataclass(frozen=True)
class Velocity:
    """The velocity of a block alone, without integrals.

    Arguments:
        model: The architecture.
        block: Shapes, its index 0.
    """

    model: ModelSpec
    block: Block

    def __call__(self, inputs: Inputs, s: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The rates span T f at t = T (start + span s); no rows of integrals."""
        net, T, s, span = _at(self, inputs, s)
        t = T * s
        return span * T * net.value(t, z), jnp.zeros((0, len(z)), z.dtype)


@dataclass(frozen=True)
class Augmented:
    """The velocity of a block, -Tr(df/dz) and the regularizers.

    Arguments:
        model: The architecture.
        block: Shapes, its index 0.
        trace: How the trace is computed.
        regularizers: Names of the integrals, in the order of the rows of q after a.
        draws: Times of a solve at which there are other probes.
    """

    model: ModelSpec
    block: Block
    trace: TraceName
    regularizers: tuple[RegularizerName, ...] = ()
    draws: int = 1

    def __call__(self, inputs: Inputs, s: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The rates span T (f, (-Tr J, integrands...)) at t = T (start + span s)."""
        net, T, s, span = _at(self, inputs, s)
        at = Derivatives(net, T * s, z, self._probe(inputs.probe, s))
        # Before the trace, which uses what they needed.
        integrands = [INTEGRANDS[name](at) for name in self.regularizers]
        rates = jnp.stack([-at.divergence(self.trace), *integrands])
        return span * T * at.f, span * T * rates

    def _probe(self, probes: jax.Array | None, s: jax.Array) -> jax.Array | None:
        """Those at s of the block."""
        if self.draws == 1 or probes is None:
            return probes
        place = (s * (self.draws - 1) + DRAW_PHASE).astype(int)
        probe: jax.Array = lax.dynamic_index_in_dim(probes, place, keepdims=False)
        return probe


def _at(
    field: Augmented | Velocity, inputs: Inputs, s: jax.Array
) -> tuple[Net, jax.Array, jax.Array, jax.Array]:
    """The net, T, start + span s and span."""
    if inputs.arrays is None or inputs.T is None or inputs.start is None or inputs.span is None:
        raise ValueError("a field lacks an input")
    net = Net(field.model, field.block, inputs.arrays)
    return net, inputs.T, inputs.start + inputs.span * s, inputs.span
