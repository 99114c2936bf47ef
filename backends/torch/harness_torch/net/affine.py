"""Affine maps h -> A h + c, A a matrix or a convolution: what a layer is at one time.

Their three uses, `apply`, `tangent` v -> A v and `cotangent` u -> A^T u, are all that values,
forward-mode and reverse-mode derivatives of the dynamics need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "Affine",
    "Conv",
    "Linear",
    "Map",
    "Term",
    "affine",
    "convolve",
    "laid_out",
    "per_output",
]


class Linear(NamedTuple):
    """A product with a matrix.

    Arguments:
        matrix: A, [out, in].
        shift: c, [out].
    """

    matrix: Tensor
    shift: Tensor

    def apply(self, h: Tensor) -> Tensor:
        """The map A h + c for each row of h, [..., in] -> [..., out]."""
        return F.linear(h, self.matrix, self.shift)

    def tangent(self, v: Tensor) -> Tensor:
        """The product A v for each row of v, [..., in] -> [..., out]."""
        return F.linear(v, self.matrix)

    def cotangent(self, u: Tensor) -> Tensor:
        """The product A^T u for each row of u, [..., out] -> [..., in]."""
        return u @ self.matrix


class Conv(NamedTuple):
    """A convolution, padded by 1.

    Arguments:
        kernel: [out, in, k, k].
        shift: c, [out, 1, 1] or one value a pixel, [out, H', W'].
        stride: 1 or 2, or -2 for a transposed convolution of stride 2.
    """

    kernel: Tensor
    shift: Tensor
    stride: int

    def apply(self, h: Tensor) -> Tensor:
        """The map A * h + c, [..., in, H, W] -> [..., out, H', W']."""
        if self.shift.shape[1:] == (1, 1):
            return _images(
                lambda x: convolve(x, self.kernel, self.stride, self.shift.flatten()), h
            )
        return self.tangent(h) + self.shift

    def tangent(self, v: Tensor) -> Tensor:
        """The product A * v, [..., in, H, W] -> [..., out, H', W']."""
        return _images(lambda x: convolve(x, self.kernel, self.stride), v)

    def cotangent(self, u: Tensor) -> Tensor:
        """The product A^T * u, [..., out, H', W'] -> [..., in, H, W]."""
        kernel, stride = self.kernel.transpose(0, 1), self.stride
        # A convolution of stride 1 is its own kind transposed, with the kernel turned about.
        if stride == 1:
            return _images(lambda x: convolve(x, kernel.flip(2, 3), 1), u)
        return _images(lambda x: convolve(x, kernel, -stride), u)


Affine = Linear | Conv


class Map(Protocol):
    """What the dynamics need of a layer at one time, however it is made."""

    def apply(self, h: Tensor) -> Tensor:
        """The map A h + c."""

    def tangent(self, v: Tensor) -> Tensor:
        """The product A v."""

    def cotangent(self, u: Tensor) -> Tensor:
        """The product A^T u."""


Term = tuple[Affine | None, Tensor | None]
"""A Taylor coefficient of a layer in time: of A as a map without a shift, and of c; None for 0."""


def affine(matrix: Tensor, shift: Tensor, stride: int | None) -> Affine:
    """A layer with a matrix, or with a kernel if it has a stride."""
    return Linear(matrix, shift) if stride is None else Conv(matrix, shift, stride)


def laid_out(weight: Tensor, stride: int | None) -> Tensor:
    """A kernel with its channels last in memory, to which convolutions, faster so on a processor,
    then keep. A matrix as it is.
    """
    if stride is None:
        return weight
    if stride > 0:
        return weight.contiguous(memory_format=torch.channels_last)
    return laid_out(weight.transpose(0, 1), -stride).transpose(0, 1)


def convolve(x: Tensor, kernel: Tensor, stride: int, bias: Tensor | None = None) -> Tensor:
    """Convolution of images x [n, in, H, W] with a kernel [out, in, k, k]; see `Conv`."""
    if stride < 0:
        return F.conv_transpose2d(x, kernel.transpose(0, 1), bias, stride=-stride, padding=1)
    return F.conv2d(x, kernel, bias, stride=stride, padding=1)


def _images(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function of [n, C, H, W] to [..., C, H, W]."""
    if x.dim() == 4:
        return function(x)
    y = function(x.flatten(0, -4))
    return y.view(*x.shape[:-3], *y.shape[1:])


def per_output(vector: Tensor, stride: int | None) -> Tensor:
    """One value an output, in the shape of a shift."""
    return vector if stride is None else vector[:, None, None]
