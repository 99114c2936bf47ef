"""Layers to which every example adds something of its own: the posterior of an autoencoder
(harness.architecture.autoencoder.amortized_sizes says what and in which order).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.architecture.autoencoder import amortized_sizes
from harness.architecture.transforms import Block, LayerShape
from harness.errors import BackendError
from harness.trial import Posterior
from harness_torch.net.affine import Linear, Map, Term
from harness_torch.net.layers import Layers

__all__ = ["Identity", "LowRank", "PerExample", "amortized"]


class PerExample(NamedTuple):
    """A product with a matrix of each example.

    Arguments:
        matrix: A^T, [batch, in, out].
        shift: c, [batch, out].
    """

    matrix: Tensor
    shift: Tensor

    def apply(self, h: Tensor) -> Tensor:
        """The layer A h + c, [batch, in] -> [batch, out]."""
        return _times(h, self.matrix) + self.shift

    def tangent(self, v: Tensor) -> Tensor:
        """The product A v, [..., batch, in] -> [..., batch, out]."""
        return _times(v, self.matrix)

    def cotangent(self, u: Tensor) -> Tensor:
        """The product A^T u, [..., batch, out] -> [..., batch, in]."""
        return _times(u, self.matrix.mT)


class Identity:
    """What follows the last nonlinearity of a net that ends with one."""

    def apply(self, h: Tensor) -> Tensor:
        """The input."""
        return h

    def tangent(self, v: Tensor) -> Tensor:
        """The tangents."""
        return v

    def cotangent(self, u: Tensor) -> Tensor:
        """The cotangents."""
        return u


class LowRank(NamedTuple):
    """A shared layer plus a change of low rank for each example; without U and V a bias alone.

    Arguments:
        shared: What all examples share.
        shift: Added to the output, [batch, out].
        U: [batch, in, rank].
        V: [batch, rank, out].
    """

    shared: Linear
    shift: Tensor
    U: Tensor | None = None
    V: Tensor | None = None

    def apply(self, h: Tensor) -> Tensor:
        """The shared layer of h [batch, in] plus h U V plus the shift, [batch, out]."""
        return self.shared.apply(h) + self._change(h) + self.shift

    def tangent(self, v: Tensor) -> Tensor:
        """The product A v, [..., batch, in] -> [..., batch, out]."""
        return self.shared.tangent(v) + self._change(v)

    def cotangent(self, u: Tensor) -> Tensor:
        """The product A^T u, [..., batch, out] -> [..., batch, in]."""
        product = self.shared.cotangent(u)
        if self.U is None or self.V is None:
            return product
        return product + _times(_times(u, self.V.mT), self.U.mT)

    def _change(self, h: Tensor) -> Tensor | float:
        if self.U is None or self.V is None:
            return 0.0
        return _times(_times(h, self.U), self.V)


def amortized(
    posterior: Posterior, block: Block, shared: Layers | None, condition: Tensor | None
) -> Layers:
    """The layers of a block as the examples make them.

    Arguments:
        posterior: What an example gives.
        block: Shapes.
        shared: The layers that all examples share; None for `hyper`.
        condition: What each example gives, [batch, numbers].

    Raises:
        BackendError: There is no condition, but the dynamics need one.
    """
    if posterior.amortization == "plain":
        if shared is None:
            raise ValueError("plain dynamics without layers")
        return shared
    if condition is None:
        raise BackendError("the dynamics of this posterior need what an example gives to them")
    parts = torch.split(condition, list(amortized_sizes(posterior, block)), dim=1)
    if posterior.amortization == "hyper":
        return _Hyper(block.layers, parts, posterior.nonlinear_output)
    if shared is None:
        raise ValueError("amortized dynamics without layers to change")
    return _Changed(posterior, block.layers, shared, parts)


class _Changed:
    """Shared layers with biases, and changes of low rank."""

    def __init__(
        self,
        posterior: Posterior,
        shapes: Sequence[LayerShape],
        shared: Layers,
        parts: Sequence[Tensor],
    ) -> None:
        self._shared = shared
        self._changes: list[tuple[Tensor, Tensor | None, Tensor | None]] = []
        for shape, part in zip(shapes, parts, strict=True):
            if posterior.amortization == "bias":
                self._changes.append((part, None, None))
                continue
            inside, out, rank = shape.inputs[0], shape.outputs[0], posterior.rank
            U, V, bias = torch.split(part, [inside * rank, rank * out, out], dim=1)
            self._changes.append((bias, U.reshape(-1, inside, rank), V.reshape(-1, rank, out)))

    def at(self, t: Tensor) -> list[LowRank]:
        """See `Layers.at`."""
        layers = []
        for shared, change in zip(self._shared.at(t), self._changes, strict=True):
            if not isinstance(shared, Linear):
                raise BackendError("the dynamics of a posterior are not convolutional")
            layers.append(LowRank(shared, *change))
        return layers

    def series(self, t: Tensor, order: int) -> list[list[Term]]:
        """See `Layers.series`: what an example gives does not depend on the time."""
        return self._shared.series(t, order)


class _Hyper:
    """Layers whose every weight is an example's; after them the identity, if a nonlinearity is to
    come after the last of them.
    """

    def __init__(
        self, shapes: Sequence[LayerShape], parts: Sequence[Tensor], nonlinear_output: bool
    ) -> None:
        self._end = [Identity()] if nonlinear_output else []
        self._parts = []
        for shape, part in zip(shapes, parts, strict=True):
            inside, out = shape.inputs[0], shape.outputs[0]
            bias, weight = torch.split(part, [out, (inside + 1) * out], dim=1)
            matrix = weight.reshape(-1, inside + 1, out)
            self._parts.append((bias, matrix[:, 0], matrix[:, 1:]))

    def at(self, t: Tensor) -> list[Map]:
        """See `Layers.at`."""
        layers = [PerExample(matrix, bias + t * time) for bias, time, matrix in self._parts]
        return [*layers, *self._end]

    def series(self, t: Tensor, order: int) -> list[list[Term]]:
        """See `Layers.series`: only the shift depends on the time, and linearly."""
        first: list[Term] = [(None, time) for _, time, _ in self._parts]
        first += [(None, None) for _ in self._end]
        none: list[Term] = [(None, None)] * len(first)
        return [first, *[none] * (order - 1)]


def _times(h: Tensor, matrices: Tensor) -> Tensor:
    """Row b of h, [..., batch or 1, in], times matrix b [batch, in, out]."""
    if h.dim() == 2:
        return torch.bmm(h[:, None], matrices)[:, 0]
    return torch.matmul(h.transpose(0, 1), matrices).transpose(0, 1)
