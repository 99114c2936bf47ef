"""The one definition of bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["bits_name", "bits_per_dim"]


def bits_per_dim(nll: float, event_shape: Sequence[int]) -> float:
    """Converts a mean negative log-likelihood to bits per dimension.

    bits/dim = nll / (D ln 2), as FFJORD's table 2 has it for images.

    Arguments:
        nll: Nats per example, of the density of dequantised integer levels, one unit a level: the
            log-volume of all preprocessing is already in it.
        event_shape: Shape of an example; D is its product.
    """
    return nll / (math.prod(event_shape) * math.log(2.0))


def bits_name(nats: str) -> str:
    """Name of a metric in bits/dim, after its name in nats.

    Example:
        >>> bits_name("test_nll"), bits_name("test_neg_elbo")
        ('test_bits_per_dim', 'test_neg_elbo_bits_per_dim')
    """
    return f"{nats.removesuffix('_nll')}_bits_per_dim"
