"""A layer at one time: an affine map, a product with a matrix or a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["Affine", "Map", "convolve"]

_AXES = ("NCHW", "OIHW", "NCHW")


class Map(Protocol):
    """What the dynamics need of a layer at one time, however it is made."""

    def apply(self, h: jax.Array) -> jax.Array:
        """A h + c."""

    def tangent(self, v: jax.Array) -> jax.Array:
        """A v."""

    def cotangent(self, u: jax.Array) -> jax.Array:
        """A^T u."""


@dataclass(frozen=True)
class Affine:
    """h -> A h + c. Its three uses, `apply`, `tangent` v -> A v and `cotangent` u -> A^T u, are
    all that values, forward-mode and reverse-mode derivatives of the dynamics need.

    Arguments:
        weight: The matrix A [out, in], or the kernel of A [out, in, k, k].
        shift: c, [out], of a convolution also [out, height, width].
        stride: That of `harness.stages.LayerShape`; None for a matrix.
    """

    weight: jax.Array
    shift: jax.Array
    stride: int | None = None

    def apply(self, h: jax.Array) -> jax.Array:
        """A h + c for each h, [..., *inputs] -> [..., *outputs]."""
        if self.stride is None or self.shift.ndim > 1:
            return self.tangent(h) + self.shift
        return self.tangent(h) + self.shift[:, None, None]

    def tangent(self, v: jax.Array) -> jax.Array:
        """A v for each v, [..., *inputs] -> [..., *outputs]."""
        if self.stride is None:
            return v @ self.weight.T
        return convolve(v, self.weight, self.stride)

    def cotangent(self, u: jax.Array) -> jax.Array:
        """A^T u for each u, [..., *outputs] -> [..., *inputs]."""
        if self.stride is None:
            return u @ self.weight
        kernel = jnp.swapaxes(self.weight, 0, 1)
        if self.stride == 1:
            return convolve(u, jnp.flip(kernel, (2, 3)), 1)
        return convolve(u, kernel, -self.stride)


def convolve(h: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolves images h [..., in, height, width] with padding 1.

    Arguments:
        h: The images.
        kernel: [out, in, k, k], k = 3 for stride 1, else 4.
        stride: 1; 2 halves the image; -2, the transpose of 2, doubles it.
    """
    images = h.reshape(-1, *h.shape[-3:])
    if stride > 0:
        out = lax.conv_general_dilated(
            images, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=_AXES
        )
    else:
        # The transpose of a strided convolution: zeros between the pixels, the kernel turned.
        out = lax.conv_general_dilated(
            images,
            jnp.flip(kernel, (2, 3)),
            (1, 1),
            ((2, 2), (2, 2)),
            lhs_dilation=(-stride, -stride),
            dimension_numbers=_AXES,
        )
    return out.reshape(*h.shape[:-3], *out.shape[1:])
