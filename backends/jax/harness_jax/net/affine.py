"""A layer at one time: an affine map, a product with a matrix or a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["Affine", "Map", "convolve"]


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
    found: jax.Array = reduce(add, terms)
    return found


def convolve(h: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolves images h [..., in, height, width] with padding 1.

    Arguments:
        h: The images.
        kernel: [out, in, k, k], k = 3 for stride 1, else 4.
        stride: 1; 2 halves the image; -2, the transpose of 2, doubles it.
    """
    images = h.reshape(-1, *h.shape[-3:])
    function = _on_processor if jax.default_backend() == "cpu" else _convolve
    out = function(images, kernel, stride)
    return out.reshape(*h.shape[:-3], *out.shape[1:])


def _convolve(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Channels last inside: within a loop, XLA on a processor convolves nothing else fast."""
    if stride < 0:
        # The transpose of a strided convolution: zeros between the pixels, the kernel turned.
        padding, dilation, step = (2, 2), (-stride, -stride), (1, 1)
        kernel = jnp.flip(kernel, (2, 3))
    else:
        padding, dilation, step = (1, 1), (1, 1), (stride, stride)
    out = lax.conv_general_dilated(
        images.transpose(0, 2, 3, 1),
        kernel.transpose(2, 3, 1, 0),
        step,
        (padding, padding),
        lhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return out.transpose(0, 3, 1, 2)


_on_processor = jax.custom_jvp(_convolve, nondiff_argnums=(2,))
"""With derivatives that are products: on a processor, the derivatives that XLA makes of a
convolution within a loop take several times as long."""


@_on_processor.defjvp
def _on_processor_jvp(
    stride: int, primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    images, kernel = primals
    images_dot, kernel_dot = tangents
    rate = _products(images_dot, kernel, stride) + _products(images, kernel_dot, stride)
    return _on_processor(images, kernel, stride), rate


def _products(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The same convolution as one product with the k * k shifted images."""
    side = kernel.shape[-1]
    if stride < 0:
        around = ((0, 0, 0), (0, 0, 0), (2, 2, 1), (2, 2, 1))
        kernel, step = jnp.flip(kernel, (2, 3)), 1
    else:
        around, step = ((0, 0, 0), (0, 0, 0), (1, 1, 0), (1, 1, 0)), stride
    padded = lax.pad(images, jnp.zeros((), images.dtype), around)
    height, width = ((length - side) // step + 1 for length in padded.shape[2:])
    shifted = jnp.stack(
        [
            padded[:, :, i : i + step * height : step, j : j + step * width : step]
            for i in range(side)
            for j in range(side)
        ],
        axis=2,
    )
    found: jax.Array = jnp.einsum(
        "ncphw,ocp->nohw", shifted, kernel.reshape(*kernel.shape[:2], -1)
    )
    return found
