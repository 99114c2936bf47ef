"""The field of a block at a point: its value, products with its Jacobian, its trace."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from harness_torch.net.affine import Map
from harness_torch.net.nonlinearities import Nonlinearity

__all__ = ["Linearization"]


BASIS_ENTRIES = 2**24
"""Tangents of the whole basis are taken in chunks of at most so many entries a layer."""


class Linearization:
    """The field f at one time and one batch of states and its Jacobian J: every derivative is a
    pass through the layers and the slopes of the nonlinearities between them.

    Arguments:
        layers: All layers at that time.
        act: The nonlinearity between them.
        z: The states, [batch, *shape].
        residual: f is the net less z, and J that of the net less the identity.
    """

    def __init__(
        self, layers: Sequence[Map], act: Nonlinearity, z: Tensor, *, residual: bool
    ) -> None:
        self.layers, self.act, self.residual = layers, act, residual
        *self._hidden, self._last = layers
        self.inputs, self.outputs, self._slopes = [z], [], []
        for layer in self._hidden:
            x = layer.apply(z)
            z = act.value(x)
            self._slopes.append(act.derivative(x, z))
            self.outputs.append(x)
            self.inputs.append(z)
        self.outputs.append(self._last.apply(z))
        self.f = self.less(self.outputs[-1], self.inputs[0])

    def less(self, of_net: Tensor, of_identity: Tensor) -> Tensor:
        """What the net gives, less what z gives where f is the net less z."""
        return of_net - of_identity if self.residual else of_net

    def tangent(self, v: Tensor) -> Tensor:
        """The product J v, [..., batch, *shape] for v of that shape."""
        return self.less(self.net_tangent(v), v)

    def net_tangent(self, v: Tensor) -> Tensor:
        """The product J v for the Jacobian of the net alone."""
        return self._last.tangent(self._push(v, 0))

    def cotangent(self, u: Tensor) -> Tensor:
        """The product u^T J, [..., batch, *shape] for u of that shape."""
        return self.less(self.net_cotangent(u), u)

    def net_cotangent(self, u: Tensor) -> Tensor:
        """The product u^T J for the Jacobian of the net alone; reverse mode written out."""
        return self._pull(self._last.cotangent(u), len(self._hidden))

    def jacobian(self) -> Tensor:
        """The Jacobian J of each example, [batch, D, D]."""
        columns = [self._last.tangent(self._push(basis, 0)) for basis in self._bases()]
        flat = torch.cat(columns).flatten(2)
        net = flat.expand(-1, len(self.inputs[0]), -1).permute(1, 2, 0)
        return self.less(net, torch.eye(net.shape[1], dtype=net.dtype, device=net.device))

    def diagonal(self) -> Tensor:
        """The diagonal of J of each example, [batch, D], with one tangent a dimension."""
        blocks = []
        for basis in self._bases():
            # Only entry k of the last layer's product with tangent k is wanted; its weights may be
            # an example's own.
            rows = self._last.cotangent(basis).flatten(2)
            columns = self._push(basis, 0).flatten(2)
            if rows.shape[1] == 1:
                blocks.append(torch.bmm(columns, rows.mT)[..., 0])
            else:
                blocks.append((columns * rows).sum(dim=2))
        diagonal = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
        net = diagonal.T.expand(len(self.inputs[0]), -1)
        return net - 1 if self.residual else net

    def bottleneck(self, eps: Tensor, split: int) -> Tensor:
        """The estimate eps^T (dh/dz dg/dh) eps of Tr J, [batch], for the net g(h(z)).

        Arguments:
            eps: Probe in the shape of h, [batch, ...].
            split: h is the state after so many layers.

        References:
            W. Grathwohl et al., FFJORD, 2018, https://arxiv.org/abs/1810.01367, section 3.1.1.
        """
        through_g = self._last.tangent(self._push(eps, split))
        return self.whole((self._pull(eps, split) * through_g).flatten(1).sum(dim=1))

    def whole(self, trace: Tensor) -> Tensor:
        """The trace of J from that of the net: where f is the net less z, D less."""
        return trace - self.inputs[0][0].numel() if self.residual else trace

    def _push(self, v: Tensor, start: int) -> Tensor:
        """Tangents before layer `start` -> tangents after the last nonlinearity."""
        for layer, slope in zip(self._hidden[start:], self._slopes[start:], strict=True):
            v = layer.tangent(v) * slope
        return v

    def _pull(self, u: Tensor, end: int) -> Tensor:
        """Cotangents after the nonlinearity of the first `end` layers -> cotangents of z."""
        for layer, slope in zip(self._hidden[:end][::-1], self._slopes[:end][::-1], strict=True):
            u = layer.cotangent(u * slope)
        return u

    def _bases(self) -> list[Tensor]:
        """The unit vectors of the state space, [D, 1, *shape], in chunks; shared by the batch."""
        z = self.inputs[0]
        size = math.prod(z.shape[1:])
        widest = max(x.numel() for x in (*self.inputs, *self.outputs))
        eye = torch.eye(size, dtype=z.dtype, device=z.device).view(size, 1, *z.shape[1:])
        return list(torch.split(eye, max(1, BASIS_ENTRIES // widest)))
