"""Trajectory polynomial regularization: how far a trajectory is from a straight line.

References:
    H.-H. Huang, M.-Y. Yeh: Accelerating continuous normalizing flow with trajectory polynomial
    regularization, 2020, https://arxiv.org/abs/2012.04228.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["distance_to_line"]


def distance_to_line(times: jax.Array, points: jax.Array) -> jax.Array:
    """Squared distance of points from their least-squares line in time, over their number.

    Arguments:
        times: [points].
        points: The states at these times, [points, batch, ...].

    Returns:
        Summed over dimensions, [batch].
    """
    count = len(times)
    flat = points.reshape(count, points.shape[1], -1)
    centered = flat - jnp.mean(flat, axis=0)
    direction = times - jnp.mean(times)
    slope = jnp.einsum("k,kbd->bd", direction, centered) / jnp.sum(direction * direction)
    rest = centered - direction[:, None, None] * slope
    return jnp.sum(rest * rest, axis=(0, 2)) / count
