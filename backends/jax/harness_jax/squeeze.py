"""What changes the shape between the blocks of a multiscale flow; volumes stay as they are."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["join", "split", "squeeze", "unsqueeze"]


def squeeze(x: jax.Array) -> jax.Array:
    """[batch, C, H, W] -> [batch, 4C, H/2, W/2]; see `harness.architecture.transforms.Squeeze`."""
    batch, channels, height, width = x.shape
    patches = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
    patches = patches.transpose(0, 1, 3, 5, 2, 4)
    return patches.reshape(batch, 4 * channels, height // 2, width // 2)


def unsqueeze(z: jax.Array) -> jax.Array:
    """The inverse of `squeeze`."""
    batch, channels, height, width = z.shape
    patches = z.reshape(batch, channels // 4, 2, 2, height, width)
    patches = patches.transpose(0, 1, 4, 2, 5, 3)
    return patches.reshape(batch, channels // 4, 2 * height, 2 * width)


def split(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The half of the channels that goes on, and the one that leaves, [batch, its D]."""
    half = z.shape[1] // 2
    return z[:, :half], z[:, half:].reshape(len(z), -1)


def join(z: jax.Array, left: jax.Array) -> jax.Array:
    """The inverse of `split`."""
    return jnp.concatenate([z, left.reshape(z.shape)], axis=1)
