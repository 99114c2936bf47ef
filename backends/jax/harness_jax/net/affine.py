"""A layer at one time: an affine map, a product with a matrix or a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Protocol

import jax
import jax.numpy as jnp

from harness_jax.net.convolution import convolve

__all__ = ["Affine", "Map"]


class Map(Protocol):
    """What the dynamics need of a layer at one time, however it is made."""

    def apply(self, h: jax.Array) -> jax.Array:
        """The map A h + c."""

    def tangent(self, v: jax.Array) -> jax.Array:
        """The product A v."""

    def cotangent(self, u: jax.Array) -> jax.Array:
        """The product A^T u."""


@dataclass(frozen=True)
class Affine:
    """h -> A h + c. Its three uses, `apply`, `tangent` v -> A v and `cotangent` u -> A^T u, are
    all that values, forward-mode and reverse-mode derivatives of the dynamics need.

    Arguments:
        weight: The matrix A [out, in], or the kernel of A [out, in, k, k].
        shift: c, [out], of a convolution also [out, height, width].
        stride: That of `harness.architecture.transforms.LayerShape`; None for a matrix.
    """

    weight: jax.Array
    shift: jax.Array
    stride: int | None = None

    def apply(self, h: jax.Array) -> jax.Array:
        """The map A h + c for each h, [..., *inputs] -> [..., *outputs]."""
        if self.stride is None or self.shift.ndim > 1:
            return self.tangent(h) + self.shift
        return self.tangent(h) + self.shift[:, None, None]

    def tangent(self, v: jax.Array) -> jax.Array:
        """The product A v for each v, [..., *inputs] -> [..., *outputs]."""
        if self.stride is None:
            return _product(v, self.weight.T)
        return convolve(v, self.weight, self.stride)

    def cotangent(self, u: jax.Array) -> jax.Array:
        """The product A^T u for each u, [..., *outputs] -> [..., *inputs]."""
        if self.stride is None:
            return _product(u, self.weight)
        kernel = jnp.swapaxes(self.weight, 0, 1)
        if self.stride == 1:
            return convolve(u, jnp.flip(kernel, (2, 3)), 1)
        return convolve(u, kernel, -self.stride)


_THIN = 4


def _product(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    """The product rows @ matrix. A thin one is a sum that XLA fuses with what follows; by Eigen it
    takes long (docs/benchmarks.md).
    """
    if len(matrix) > _THIN:
        return rows @ matrix
    columns = jnp.split(rows, len(matrix), axis=-1)
    terms = (column * row for column, row in zip(columns, matrix, strict=True))
    product: jax.Array = reduce(add, terms)
    return product
