"""Layers and nonlinearities of the dynamics.

At a fixed time t every layer is affine in h: h -> A(t) h + c(t). Its three uses, `apply`,
`tangent` v -> A v and `cotangent` u -> A^T u, are all that values, forward-mode and reverse-mode
derivatives of the dynamics need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.trial import LayerName, NonlinearityName

__all__ = ["LAYERS", "NONLINEARITIES", "Affine", "Nonlinearity", "concat", "concatsquash"]


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


def concat(arrays: Mapping[str, Tensor], t: Tensor) -> Affine:
    """W [t, h] + b; column 0 of the weight belongs to t (FFJORD's code, ConcatLinear)."""
    time_column, matrix = torch.split(arrays["weight"], [1, arrays["weight"].shape[1] - 1], dim=1)
    return Affine(matrix, torch.addcmul(arrays["bias"], time_column[:, 0], t))


def concatsquash(arrays: Mapping[str, Tensor], t: Tensor) -> Affine:
    """(W h + b) sigmoid(w_g t + b_g) + w_t t (FFJORD's code, ConcatSquashLinear).

    The gate scales the rows of W rather than those of W h: the same number, but touches [out, in]
    entries once instead of [batch, out] entries for the value and for every tangent.
    """
    gate = torch.sigmoid(torch.addcmul(arrays["gate_bias"], arrays["gate_weight"], t))
    shift = torch.addcmul(arrays["time_weight"] * t, arrays["bias"], gate)
    return Affine(arrays["weight"] * gate[:, None], shift)


LAYERS: Mapping[LayerName, Callable[[Mapping[str, Tensor], Tensor], Affine]] = {
    "concat": concat,
    "concatsquash": concatsquash,
}


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
