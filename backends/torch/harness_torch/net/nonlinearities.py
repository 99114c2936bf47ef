"""The functions between the layers of the dynamics, each with its derivative and Taylor series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.errors import BackendError
from harness.trial import NonlinearityName

__all__ = [
    "Nonlinearity",
    "Series",
    "nonlinearity",
    "product",
    "series_of_line",
    "sigmoid_series",
    "tanh_series",
]

Series = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
"""(x_0..x_k, y_0..y_{k-1}) -> y_k, k > 0: Taylor coefficients of y(x(t)) from those of x(t)."""


class Nonlinearity(NamedTuple):
    """An elementwise function.

    Arguments:
        value: x -> y.
        derivative: (x, y) -> dy/dx, from y where that is cheaper.
        series: Its next Taylor coefficient.
    """

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]
    series: Series


def product(a: Sequence[Tensor], b: Sequence[Tensor], order: int) -> Tensor:
    """Coefficient `order` of the product of two series."""
    total = a[0] * b[order]
    for i in range(1, order + 1):
        total = total + a[i] * b[order - i]
    return total


def _chain(xs: Sequence[Tensor], slopes: Sequence[Tensor]) -> Tensor:
    """y_k of y' = slope(t) x', from x_0..x_k and slope_0..slope_{k-1}."""
    k = len(xs) - 1
    total = slopes[0] * xs[k]
    for j in range(1, k):
        total = total + (j / k) * xs[j] * slopes[k - j]
    return total


def tanh_series(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Tensor:
    """From y' = (1 - y^2) x'."""
    squares = [product(ys, ys, i) for i in range(len(ys))]
    return _chain(xs, [1 - squares[0], *(-square for square in squares[1:])])


def sigmoid_series(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Tensor:
    """From y' = (y - y^2) x'."""
    return _chain(xs, [ys[i] - product(ys, ys, i) for i in range(len(ys))])


def _sigmoids(xs: Sequence[Tensor]) -> list[Tensor]:
    """All coefficients of sigmoid(x)."""
    ys = [torch.sigmoid(xs[0])]
    for k in range(1, len(xs)):
        ys.append(sigmoid_series(xs[: k + 1], ys))
    return ys


def _elu_slope(x: Tensor, y: Tensor) -> Tensor:
    # For x <= 0: y = exp(x) - 1, so dy/dx = y + 1; for x > 0 it is 1.
    return y.clamp(max=0) + 1


def _elu_series(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Tensor:
    """From y' = (y + 1) x' where x <= 0, else x'."""
    below = (xs[0] <= 0).to(xs[0].dtype)
    return _chain(xs, [_elu_slope(xs[0], ys[0]), *(below * y for y in ys[1:])])


def _relu_slope(x: Tensor, y: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)


def _softplus(x: Tensor) -> Tensor:
    # torch's default returns x itself above 20, wrong by 2e-9; above 40 it is exact in float64.
    return F.softplus(x, threshold=40.0)


_FIXED: Mapping[NonlinearityName, Nonlinearity] = {
    "elu": Nonlinearity(F.elu, _elu_slope, _elu_series),
    "identity": Nonlinearity(
        lambda x: x, lambda x, y: torch.ones_like(x), lambda xs, ys: xs[len(ys)]
    ),
    "relu": Nonlinearity(
        torch.relu, _relu_slope, lambda xs, ys: _relu_slope(xs[0], ys[0]) * xs[len(ys)]
    ),
    "softplus": Nonlinearity(
        _softplus,
        lambda x, y: torch.sigmoid(x),
        lambda xs, ys: _chain(xs, _sigmoids(xs[: len(ys)])),
    ),
    "square": Nonlinearity(
        torch.square, lambda x, y: 2 * x, lambda xs, ys: product(xs, xs, len(ys))
    ),
    "tanh": Nonlinearity(torch.tanh, lambda x, y: 1 - y * y, tanh_series),
}


def _swish(beta: Tensor) -> Nonlinearity:
    """The function x sigmoid(beta x); beta is one number for all layers (FFJORD's code)."""

    def derivative(x: Tensor, y: Tensor) -> Tensor:
        gate = torch.sigmoid(beta * x)
        return torch.addcmul(gate, beta * y, 1 - gate)

    def series(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Tensor:
        return product(xs, _sigmoids([beta * x for x in xs]), len(ys))

    return Nonlinearity(lambda x: x * torch.sigmoid(beta * x), derivative, series)


def nonlinearity(name: NonlinearityName, beta: Tensor | None = None) -> Nonlinearity:
    """The function of this name; `beta` is the array `swish_beta`, which swish needs."""
    if name != "swish":
        return _FIXED[name]
    if beta is None:
        raise BackendError("swish needs the array 'swish_beta'")
    return _swish(beta)


def series_of_line(
    function: Callable[[Tensor], Tensor],
    series: Series,
    weight: Tensor,
    bias: Tensor,
    t: Tensor,
    order: int,
) -> list[Tensor]:
    """Taylor coefficients 0..order in time of function(weight t + bias)."""
    zero = torch.zeros_like(weight)
    xs = [torch.addcmul(bias, weight, t), weight, *[zero] * (order - 1)]
    ys = [function(xs[0])]
    for k in range(1, order + 1):
        ys.append(series(xs[: k + 1], ys))
    return ys
