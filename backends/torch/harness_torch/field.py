"""What a block's solve integrates: the velocity, and beside it -Tr(df/dz) and the regularizers
(docs/numerics.md, sections 1 and 4).

A field is a function of its inputs alone and equal blocks have equal fields, so what is compiled
for one block serves the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.architecture.noise import DRAW_PHASE
from harness.architecture.transforms import Block
from harness.trial import ModelSpec, RegularizerName, TraceName
from harness_torch.net.derivatives import Derivatives
from harness_torch.net.net import Net
from harness_torch.regularizers import INTEGRANDS, time_order
from harness_torch.solve.problem import BoundField, Field, Inputs, Rates

__all__ = ["Augmented", "Velocity"]


@dataclass(frozen=True)
class Velocity(Field):
    """The velocity of a block alone, without integrals.

    Arguments:
        model: The architecture.
        block: Shapes; the index is 0 for every block, so that equal ones compare equal.
    """

    rare: ClassVar[bool] = True

    model: ModelSpec
    block: Block

    def bind(self, inputs: Inputs) -> BoundField:
        """The rates span T f at t = T (start + span s); no rows of integrals."""
        net = Net(self.model, self.block, inputs.arrays)
        scale, origin = inputs.T * inputs.span, inputs.T * inputs.start

        def field(s: Tensor, z: Tensor) -> Rates:
            f = net.value(torch.addcmul(origin, scale, s), z)
            return scale * f, z.new_zeros((0, len(z)))

        return field


@dataclass(frozen=True)
class Augmented(Field):
    """The velocity of a block, -Tr(df/dz) and the regularizers.

    Arguments:
        model: The architecture.
        block: Shapes; the index is 0 for every block, so that equal ones compare equal.
        trace: How the trace is computed.
        regularizers: Names of the integrals, in the order of the rows of q after a.
        draws: Times of a solve at which there are other probes.
    """

    model: ModelSpec
    block: Block
    trace: TraceName
    regularizers: tuple[RegularizerName, ...] = ()
    draws: int = 1

    def bind(self, inputs: Inputs) -> BoundField:
        """The rates span T (f, (-Tr J, integrands...)) at t = T (start + span s)."""
        net = Net(self.model, self.block, inputs.arrays)
        scale, origin = inputs.T * inputs.span, inputs.T * inputs.start
        order = time_order(self.regularizers)

        def field(s: Tensor, z: Tensor) -> Rates:
            t = torch.addcmul(origin, scale, s)
            at = Derivatives(net, t, z, self._probe(inputs, s), order)
            # Before the trace, which uses what they needed.
            rates = [INTEGRANDS[name](at) for name in self.regularizers]
            return scale * at.f, scale * torch.stack([-at.divergence(self.trace), *rates])

        return field

    def _probe(self, inputs: Inputs, s: Tensor) -> Tensor | None:
        """The probes at s."""
        if self.draws == 1 or inputs.probe is None:
            return inputs.probe
        place = torch.addcmul(inputs.start, inputs.span, s) * (self.draws - 1) + DRAW_PHASE
        return inputs.probe.index_select(0, place.long().reshape(1)).squeeze(0)
