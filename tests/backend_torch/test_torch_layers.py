"""Layers and nonlinearities against torch.func."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from harness_torch.layers import LAYERS, NONLINEARITIES, Affine
from torch import Tensor

from harness.trial import LayerName, ModelSpec, NonlinearityName

MakeArrays = Callable[[ModelSpec, int], dict[str, Tensor]]
T = torch.tensor(0.3, dtype=torch.float64)


def _first_layer(name: LayerName, arrays: dict[str, Tensor]) -> Affine:
    layers = [
        {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith(f"layer{i}/")}
        for i in range(2)
    ]
    return LAYERS[name](layers)(T)[0]


@pytest.mark.parametrize("name", get_args(LayerName))
def test_tangent_and_cotangent_are_the_derivatives(
    name: LayerName, block_arrays: MakeArrays, rng_torch: torch.Generator
) -> None:
    layer = _first_layer(name, block_arrays(ModelSpec(name, (5,)), 3))
    h, v = torch.randn(2, 4, 3, generator=rng_torch, dtype=torch.float64)
    u = torch.randn(4, 5, generator=rng_torch, dtype=torch.float64)
    tangent = torch.func.jvp(layer.apply, (h,), (v,))[1]
    pull_back = torch.func.vjp(layer.apply, h)[1]
    torch.testing.assert_close(layer.tangent(v), tangent, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(layer.cotangent(u), pull_back(u)[0], rtol=1e-14, atol=1e-14)


def test_concat_is_its_formula(block_arrays: MakeArrays, rng_torch: torch.Generator) -> None:
    arrays = block_arrays(ModelSpec("concat", (5,)), 3)
    h = torch.randn(4, 3, generator=rng_torch, dtype=torch.float64)
    with_time = torch.cat([T.expand(4, 1), h], dim=1)
    expected = with_time @ arrays["layer0/weight"].T + arrays["layer0/bias"]
    torch.testing.assert_close(_first_layer("concat", arrays).apply(h), expected)


def test_concatsquash_is_its_formula(block_arrays: MakeArrays, rng_torch: torch.Generator) -> None:
    arrays = block_arrays(ModelSpec("concatsquash", (5,)), 3)
    h = torch.randn(4, 3, generator=rng_torch, dtype=torch.float64)
    gate = torch.sigmoid(arrays["layer0/gate_weight"] * T + arrays["layer0/gate_bias"])
    linear = h @ arrays["layer0/weight"].T + arrays["layer0/bias"]
    expected = linear * gate + arrays["layer0/time_weight"] * T
    torch.testing.assert_close(_first_layer("concatsquash", arrays).apply(h), expected)


@pytest.mark.parametrize("name", get_args(NonlinearityName))
def test_derivative_and_its_derivative(name: NonlinearityName) -> None:
    """The derivative matches autodiff of the value, and so does its own derivative."""
    value, derivative = NONLINEARITIES[name]
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


def test_softplus_is_accurate_where_torch_switches_to_the_identity() -> None:
    x = torch.tensor([20.5, 30.0], dtype=torch.float64)
    expected = torch.logaddexp(x, torch.zeros_like(x))
    torch.testing.assert_close(NONLINEARITIES["softplus"].value(x), expected, rtol=1e-15, atol=0)
