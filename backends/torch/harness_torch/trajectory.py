"""Trajectory polynomial regularization: how far a trajectory is from a straight line.

References:
    H.-H. Huang, M.-Y. Yeh: Accelerating continuous normalizing flow with trajectory polynomial
    regularization, 2020, https://arxiv.org/abs/2012.04228.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["distance_to_line"]


def distance_to_line(times: Sequence[float], points: Sequence[Tensor]) -> Tensor:
    """Squared distance of points from their least-squares line in time, over their number.

    Arguments:
        times: The times, increasing.
        points: The states at these times, [batch, ...] each.

    Returns:
        Summed over dimensions, [batch].
    """
    z = torch.stack([point.flatten(1) for point in points])
    t = torch.tensor(times, dtype=torch.float64, device="cpu")
    t = (t - t.mean()).to(z)[:, None, None]
    z = z - z.mean(dim=0)
    slope = (t * z).sum(dim=0) / t.square().sum()
    return (z - slope * t).square().sum(dim=(0, 2)) / len(times)
