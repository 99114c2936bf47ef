"""Trajectory polynomial regularization (H.-H. Huang, M.-Y. Yeh: Accelerating continuous
normalizing flow with trajectory polynomial regularization, 2020,
https://arxiv.org/abs/2012.04228), of degree 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["distance_to_line"]


def distance_to_line(times: Sequence[float], states: Sequence[Tensor]) -> Tensor:
    """Squared distance of a trajectory to its least-squares line in time, over the number of
    times.

    Arguments:
        times: The times, increasing.
        states: The states then, [batch, ...] each.

    Returns:
        [batch]
    """
    z = torch.stack([state.flatten(1) for state in states])
    t = torch.tensor(times, dtype=torch.float64, device="cpu")
    t = (t - t.mean()).to(z)[:, None, None]
    z = z - z.mean(dim=0)
    slope = (t * z).sum(dim=0) / t.square().sum()
    return (z - slope * t).square().sum(dim=(0, 2)) / len(times)
