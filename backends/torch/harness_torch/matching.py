"""Flow matching: the field is trained on points of paths between rows and base samples, without a
solve; measured is the density of the flow that it makes (docs/numerics.md, section 16).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.interface import Quantity
from harness_torch.flow import Terms
from harness_torch.noise import Noise, drawn
from harness_torch.objective import Density, Options, Values
from harness_torch.solve.blocks import BlockCounts

__all__ = ["Matching"]


@dataclass(frozen=True)
class Matching:
    """The loss of flow matching, and all else that of the density.

    Arguments:
        density: The density of the same flow.
    """

    density: Density

    def loss(
        self, x: Tensor, noise: Noise, options: Options, kl_weight: float
    ) -> tuple[Tensor, Terms]:
        """See `Objective.loss`: K sum over K blocks of |T f(T s, point) - rate|^2, with one
        evaluation of each block. The base variables among the terms are zero: nothing is carried
        there.
        """
        del options, kl_weight
        blocks = range(self.density.flow.blocks)
        given = [drawn(noise.rates, "rate", block) for block in blocks]
        rates, buffers = self.density.flow.rates(noise.path_times, noise.points)
        distances = [
            (rate.flatten(1) - wanted.flatten(1)).square().sum(dim=1)
            for rate, wanted in zip(rates, given, strict=True)
        ]
        loss = len(blocks) * torch.stack(distances).sum(dim=0)
        counts = [BlockCounts() for _ in blocks]
        for block in counts:
            taken = block.add(1.0)
            taken.forward = taken.vjp = 1
        return loss, Terms(torch.zeros_like(x), torch.zeros_like(loss), {}, counts, buffers)

    def values(
        self, x: Tensor, noise: Noise, options: Options, quantities: Collection[Quantity]
    ) -> tuple[Values, Terms]:
        """See `Objective.values`."""
        return self.density.values(x, noise, options, quantities)

    def sample(
        self, base: Tensor, noise: Noise, options: Options
    ) -> tuple[Values, list[BlockCounts]]:
        """See `Objective.sample`."""
        return self.density.sample(base, noise, options)
