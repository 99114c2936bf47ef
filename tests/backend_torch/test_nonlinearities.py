"""Nonlinearities, their derivatives and their series against autodiff."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from harness_torch.net.nonlinearities import nonlinearity
from torch import Tensor

from harness.errors import BackendError
from harness.trial import NonlinearityName

BETA = torch.tensor(1.3, dtype=torch.float64)


@pytest.mark.parametrize("name", get_args(NonlinearityName))
def test_derivative_and_its_derivative(name: NonlinearityName) -> None:
    """The derivative matches autodiff of the value, and so does its own derivative."""
    value, derivative, _ = nonlinearity(name, BETA)
    x = torch.tensor(
        [-45.0, -3.0, -0.5, -1e-3, 1e-3, 0.5, 3.0, 19.0, 21.0, 45.0], dtype=torch.float64
    ).requires_grad_()
    ones = torch.ones_like(x)
    y = value(x)
    first = torch.autograd.grad(y, x, ones, create_graph=True)[0]
    ours = derivative(x, y)
    torch.testing.assert_close(ours, first, rtol=1e-12, atol=1e-15)
    if ours.requires_grad:
        second = torch.autograd.grad(first, x, ones, retain_graph=True)[0]
        found = torch.autograd.grad(ours, x, ones)[0]
        torch.testing.assert_close(found, second, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", get_args(NonlinearityName))
def test_the_series_is_taylors(name: NonlinearityName) -> None:
    """Of y(x(d)) for a cubic x(d), against nested forward mode."""
    act = nonlinearity(name, BETA)
    xs = [
        torch.tensor(row, dtype=torch.float64)
        for row in ([-1.2, 0.7, 2.0], [0.3, -0.8, 1.1], [0.5, 0.2, -0.4], [-0.6, 0.9, 0.1])
    ]
    function: Callable[[Tensor], Tensor] = lambda d: act.value(  # noqa: E731
        sum((x * d**k for k, x in enumerate(xs)), torch.zeros(3))
    )
    zero = torch.zeros((), dtype=torch.float64)
    ys = [act.value(xs[0])]
    for k in range(1, 4):
        function = _derivative(function)
        ys.append(act.series(xs[: k + 1], ys))
        torch.testing.assert_close(
            ys[k], function(zero) / math.factorial(k), rtol=1e-10, atol=1e-14
        )


def _derivative(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda d: torch.func.jvp(function, (d,), (torch.ones_like(d),))[1]


def test_swish_is_its_formula_and_needs_beta() -> None:
    x = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(nonlinearity("swish", BETA).value(x), x / (1 + torch.exp(-1.3 * x)))
    with pytest.raises(BackendError, match="swish_beta"):
        nonlinearity("swish")


def test_softplus_is_accurate_where_torch_switches_to_the_identity() -> None:
    x = torch.tensor([20.5, 30.0], dtype=torch.float64)
    expected = torch.logaddexp(x, torch.zeros_like(x))
    torch.testing.assert_close(nonlinearity("softplus").value(x), expected, rtol=1e-15, atol=0)
