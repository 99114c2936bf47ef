"""What changes the shape between the blocks of a multiscale flow; volumes stay as they are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["join", "split", "squeeze", "unsqueeze"]


def squeeze(x: Tensor) -> Tensor:
    """[batch, C, H, W] -> [batch, 4C, H/2, W/2]; see `harness.architecture.transforms.Squeeze`."""
    return F.pixel_unshuffle(x, 2)


def unsqueeze(z: Tensor) -> Tensor:
    """The inverse of `squeeze`."""
    return F.pixel_shuffle(z, 2)


def split(z: Tensor) -> tuple[Tensor, Tensor]:
    """The half of the channels that goes on, and the one that leaves, [batch, its D]."""
    stays, leaves = z.chunk(2, dim=1)
    return stays, leaves.flatten(1)


def join(z: Tensor, left: Tensor) -> Tensor:
    """The inverse of `split`."""
    return torch.cat([z, left.view(z.shape)], dim=1)
