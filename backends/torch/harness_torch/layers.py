"""Layers and nonlinearities of the dynamics.

At a fixed time t every layer is affine in h: h -> A(t) h + c(t). Its three uses, `apply`,
`tangent` v -> A v and `cotangent` u -> A^T u, are all that values, forward-mode and reverse-mode
derivatives of the dynamics need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.trial import LayerName, NonlinearityName

__all__ = [
    "LAYERS",
    "NONLINEARITIES",
    "Affine",
    "Layers",
    "Nonlinearity",
    "concat",
    "concatsquash",
]


class Affine(NamedTuple):
    """A layer at one time.

    Arguments:
        matrix: A(t), [out, in].
        shift: c(t), [out].
    """

    matrix: Tensor
    shift: Tensor

    def apply(self, h: Tensor) -> Tensor:
        """A h + c for each row of h, [..., in] -> [..., out]."""
        return F.linear(h, self.matrix, self.shift)

    def tangent(self, v: Tensor) -> Tensor:
        """A v for each row of v, [..., in] -> [..., out]."""
        return F.linear(v, self.matrix)

    def cotangent(self, u: Tensor) -> Tensor:
        """A^T u for each row of u, [..., out] -> [..., in]."""
        return u @ self.matrix


Layers = Callable[[Tensor], list[Affine]]
"""t -> all layers of a block at that time."""


def concat(layers: Sequence[Mapping[str, Tensor]]) -> Layers:
    """W [t, h] + b; column 0 of the weight belongs to t (FFJORD's code, ConcatLinear)."""
    parts = [torch.split(a["weight"], [1, a["weight"].shape[1] - 1], dim=1) for a in layers]
    columns = torch.cat([column[:, 0] for column, _ in parts])
    bias, widths = _joined(layers, "bias")

    def at(t: Tensor) -> list[Affine]:
        shifts = torch.split(torch.addcmul(bias, columns, t), widths)
        return [Affine(w, shift) for (_, w), shift in zip(parts, shifts, strict=True)]

    return at


def concatsquash(layers: Sequence[Mapping[str, Tensor]]) -> Layers:
    """(W h + b) sigmoid(w_g t + b_g) + w_t t (FFJORD's code, ConcatSquashLinear).

    The gate scales the rows of W rather than those of W h: the same number, but it touches
    [out, in] entries once instead of [batch, out] entries for the value and every tangent.
    """
    bias, widths = _joined(layers, "bias")
    gate_weight, _ = _joined(layers, "gate_weight")
    gate_bias, _ = _joined(layers, "gate_bias")
    time_weight, _ = _joined(layers, "time_weight")

    def at(t: Tensor) -> list[Affine]:
        gate = torch.sigmoid(torch.addcmul(gate_bias, gate_weight, t))
        shift = torch.addcmul(time_weight * t, bias, gate)
        gates, shifts = torch.split(gate, widths), torch.split(shift, widths)
        return [
            Affine(a["weight"] * g[:, None], c)
            for a, g, c in zip(layers, gates, shifts, strict=True)
        ]

    return at


def _joined(layers: Sequence[Mapping[str, Tensor]], name: str) -> tuple[Tensor, list[int]]:
    """One kind of vector of all layers end to end: what depends on t alone is computed in one go,
    which saves a tenth of the training step of small nets.
    """
    vectors = [arrays[name] for arrays in layers]
    return torch.cat(vectors), [len(vector) for vector in vectors]


LAYERS: Mapping[LayerName, Callable[[Sequence[Mapping[str, Tensor]]], Layers]] = {
    "concat": concat,
    "concatsquash": concatsquash,
}
"""By name: (arrays of each layer) -> the layers as functions of t."""


class Nonlinearity(NamedTuple):
    """An elementwise function.

    Arguments:
        value: x -> y.
        derivative: (x, y) -> dy/dx, from y where that is cheaper.
    """

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]


def _softplus(x: Tensor) -> Tensor:
    # torch's default returns x itself above 20, wrong by 2e-9; above 40 it is exact in float64.
    return F.softplus(x, threshold=40.0)


NONLINEARITIES: Mapping[NonlinearityName, Nonlinearity] = {
    # For x <= 0: y = exp(x) - 1, so dy/dx = y + 1; for x > 0 it is 1.
    "elu": Nonlinearity(F.elu, lambda x, y: y.clamp(max=0) + 1),
    "identity": Nonlinearity(lambda x: x, lambda x, y: torch.ones_like(x)),
    "relu": Nonlinearity(torch.relu, lambda x, y: (x > 0).to(x.dtype)),
    "softplus": Nonlinearity(_softplus, lambda x, y: torch.sigmoid(x)),
    "square": Nonlinearity(torch.square, lambda x, y: 2 * x),
    "tanh": Nonlinearity(torch.tanh, lambda x, y: 1 - y * y),
}
