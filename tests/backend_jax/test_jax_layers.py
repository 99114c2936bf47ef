"""Layers and nonlinearities against jax's own derivatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness_jax.layers import LAYERS, NONLINEARITIES, Affine

from harness.streams import Stream
from harness.trial import LayerName, ModelSpec, NonlinearityName

MakeArrays = Callable[[ModelSpec, int], dict[str, jax.Array]]
T = 0.3

# Written plainly, for autodiff to differentiate.
PLAIN: dict[NonlinearityName, Callable[[jax.Array], jax.Array]] = {
    "elu": jax.nn.elu,
    "identity": lambda x: x,
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "square": lambda x: x**2,
    "tanh": jnp.tanh,
}


def _normal(name: str, *shape: int) -> jax.Array:
    return jnp.asarray(Stream(1, name).normal(shape))


def _layers(name: LayerName, arrays: dict[str, jax.Array]) -> list[Affine]:
    layers = [
        {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith(f"layer{i}/")}
        for i in range(2)
    ]
    return LAYERS[name](layers)(jnp.asarray(T))


@pytest.mark.parametrize("name", get_args(LayerName))
def test_tangent_and_cotangent_are_the_derivatives(
    name: LayerName, block_arrays: MakeArrays
) -> None:
    layer = _layers(name, block_arrays(ModelSpec(name, (5,)), 3))[0]
    h, v, u = _normal("h", 4, 3), _normal("v", 4, 3), _normal("u", 4, 5)
    tangent = jax.jvp(layer.apply, (h,), (v,))[1]
    cotangent = jax.vjp(layer.apply, h)[1](u)[0]
    np.testing.assert_allclose(layer.tangent(v), tangent, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(layer.cotangent(u), cotangent, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("index", [0, 1])
def test_concat_is_its_formula(index: int, block_arrays: MakeArrays) -> None:
    arrays = block_arrays(ModelSpec("concat", (5,)), 3)
    weight, bias = arrays[f"layer{index}/weight"], arrays[f"layer{index}/bias"]
    h = _normal("h", 4, weight.shape[1] - 1)
    with_time = jnp.concatenate([jnp.full((4, 1), T), h], axis=1)
    found = _layers("concat", arrays)[index].apply(h)
    np.testing.assert_allclose(found, with_time @ weight.T + bias, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("index", [0, 1])
def test_concatsquash_is_its_formula(index: int, block_arrays: MakeArrays) -> None:
    arrays = block_arrays(ModelSpec("concatsquash", (5,)), 3)
    own = {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith(f"layer{index}/")}
    h = _normal("h", 4, own["weight"].shape[1])
    gate = jax.nn.sigmoid(own["gate_weight"] * T + own["gate_bias"])
    expected = (h @ own["weight"].T + own["bias"]) * gate + own["time_weight"] * T
    found = _layers("concatsquash", arrays)[index].apply(h)
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", get_args(NonlinearityName))
def test_value_derivative_and_its_derivative(name: NonlinearityName) -> None:
    """The pair is (value, derivative), and autodiff of either gives the next derivative."""
    x = jnp.asarray([-45.0, -3.0, -0.5, -1e-3, 1e-3, 0.5, 3.0, 19.0, 21.0, 45.0])
    pair, plain = NONLINEARITIES[name], PLAIN[name]
    first, second = jax.vmap(jax.grad(plain)), jax.vmap(jax.grad(jax.grad(plain)))
    value, derivative = pair(x)
    close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15)
    close(value, plain(x))
    close(derivative, first(x))
    of_value = jax.vmap(jax.grad(lambda x: pair(x)[0]))(x)
    of_derivative = jax.vmap(jax.grad(lambda x: pair(x)[1]))(x)
    close(of_value, first(x))
    np.testing.assert_allclose(of_derivative, second(x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", get_args(NonlinearityName))
def test_nothing_overflows(name: NonlinearityName) -> None:
    x = jnp.asarray([-800.0, 800.0])
    value, derivative = NONLINEARITIES[name](x)
    assert np.isfinite(value).all()
    assert np.isfinite(derivative).all()
