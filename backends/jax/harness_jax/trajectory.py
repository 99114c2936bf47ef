"""Trajectory polynomial regularization: how far a trajectory is from a straight line.

References:
    H.-H. Huang, M.-Y. Yeh: Accelerating continuous normalizing flow with trajectory polynomial
    regularization, 2020, https://arxiv.org/abs/2012.04228.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["distance_to_line", "pieces"]


def pieces(times: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Starts and spans, [k + 1] each, of the pieces into which `times` [k] cut [0, 1]."""
    ends = jnp.concatenate([jnp.sort(times), jnp.ones_like(times[:1])])
    starts = jnp.concatenate([jnp.zeros_like(times[:1]), ends[:-1]])
    return starts, ends - starts


def distance_to_line(times: jax.Array, points: jax.Array) -> jax.Array:
    """Squared distance of points from their least-squares line in time, over their number.

    Arguments:
        times: [points].
        points: States at these times, [points, batch, ...].

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
