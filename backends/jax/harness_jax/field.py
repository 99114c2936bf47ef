"""The fields of a block: what its solves integrate (docs/numerics.md, sections 1 and 4).

A field is a function of its inputs alone and equal blocks have equal fields, so what is compiled
for one block serves the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from harness.architecture.transforms import Block
from harness.trial import ModelSpec, RegularizerName, TraceName
from harness_jax.net.derivatives import Derivatives
from harness_jax.net.net import Net
from harness_jax.regularizers import INTEGRANDS
from harness_jax.solve.problem import Inputs

__all__ = ["Augmented", "Velocity"]


@dataclass(frozen=True)
class Augmented:
    """A block with its divergence and regularizers.

    Arguments:
        model: The architecture.
        block: Shapes, its index 0.
        trace: `exact`; `hutchinson`, eps^T J eps (M. Hutchinson, A stochastic estimator of the
            trace of the influence matrix, 1989); or `bottleneck`.
        regularizers: Names of the integrals, in the order of the rows of q after a.
    """

    model: ModelSpec
    block: Block
    trace: TraceName
    regularizers: tuple[RegularizerName, ...] = ()

    def __call__(self, inputs: Inputs, s: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """T (f, (-Tr J, integrands...)) at t = T s; s counted by the solve, times its span."""
        net, T, s, span = _at(self, inputs, s)
        at = Derivatives(net, T * s, z, inputs.probe)
        # Before the trace, which uses what they needed.
        integrands = [INTEGRANDS[name](at) for name in self.regularizers]
        rates = jnp.stack([-at.divergence(self.trace), *integrands])
        return span * T * at.f, span * T * rates


@dataclass(frozen=True)
class Velocity:
    """A block alone.

    Arguments:
        model: The architecture.
        block: Shapes, its index 0.
        inverse: From base to data instead of data to base.
    """

    model: ModelSpec
    block: Block
    inverse: bool = False

    def __call__(self, inputs: Inputs, s: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """T f at t = T s, or -T f at t = T (1 - s); no rows of integrals."""
        net, T, s, span = _at(self, inputs, s)
        sign, t = (-T, T * (1 - s)) if self.inverse else (T, T * s)
        return span * sign * net.value(t, z), jnp.zeros((0, len(z)), z.dtype)


def _at(
    field: Augmented | Velocity, inputs: Inputs, s: jax.Array
) -> tuple[Net, jax.Array, jax.Array, jax.Array]:
    """The net, T, s as the whole block counts it, and the span of the solve."""
    if inputs.arrays is None or inputs.T is None or inputs.start is None or inputs.span is None:
        raise ValueError("a field lacks an input")
    net = Net(field.model, field.block, inputs.arrays)
    return net, inputs.T, inputs.start + inputs.span * s, inputs.span
