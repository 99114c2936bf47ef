"""The nonlinearities between layers, each with its derivative and a rule for autodiff."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from harness.trial import NonlinearityName

__all__ = ["NONLINEARITIES", "Nonlinearity"]

Nonlinearity = Callable[[jax.Array, jax.Array | None], tuple[jax.Array, jax.Array]]
"""(x, beta) -> (value, derivative in x), elementwise; only `swish` has a beta, of shape ()."""


class _Jet(NamedTuple):
    """Value and two derivatives in x; the first two of these by beta, if there is one."""

    value: jax.Array
    derivative: jax.Array
    curvature: jax.Array
    by_beta: tuple[jax.Array, jax.Array] | None = None


def _with_curvature(jet: Callable[[jax.Array, jax.Array | None], _Jet]) -> Nonlinearity:
    """Makes (x, beta) -> (value, derivative) of a function that knows its second derivative.

    Differentiating the pair by its own second derivative spares autodiff the chain that computed
    the value, and gives relu and elu one convention at 0.
    """

    @jax.custom_jvp
    def pair(x: jax.Array, beta: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        local = jet(x, beta)
        return local.value, local.derivative

    def rule(
        primals: tuple[jax.Array, jax.Array | None], tangents: tuple[jax.Array, jax.Array | None]
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        local = jet(*primals)
        x_dot, beta_dot = tangents
        dots = local.derivative * x_dot, local.curvature * x_dot
        if local.by_beta is not None and beta_dot is not None:
            value, derivative = local.by_beta
            dots = dots[0] + value * beta_dot, dots[1] + derivative * beta_dot
        return (local.value, local.derivative), dots

    pair.defjvp(rule)
    return pair


def _elu(x: jax.Array, _: jax.Array | None) -> _Jet:
    value = jnp.where(x > 0, x, jnp.expm1(jnp.minimum(x, 0)))
    derivative = jnp.where(x > 0, jnp.ones_like(x), value + 1)
    return _Jet(value, derivative, jnp.where(x > 0, jnp.zeros_like(x), derivative))


def _identity(x: jax.Array, _: jax.Array | None) -> _Jet:
    return _Jet(x, jnp.ones_like(x), jnp.zeros_like(x))


def _relu(x: jax.Array, _: jax.Array | None) -> _Jet:
    return _Jet(jnp.maximum(x, 0), (x > 0).astype(x.dtype), jnp.zeros_like(x))


def _softplus(x: jax.Array, _: jax.Array | None) -> _Jet:
    # One exponential for both: e = exp(-|x|) never overflows.
    e = jnp.exp(-jnp.abs(x))
    value = jnp.maximum(x, 0) + jnp.log1p(e)
    derivative = jnp.where(x >= 0, 1, e) / (1 + e)
    return _Jet(value, derivative, derivative * (1 - derivative))


def _square(x: jax.Array, _: jax.Array | None) -> _Jet:
    return _Jet(x * x, 2 * x, jnp.full_like(x, 2))


def _swish(x: jax.Array, beta: jax.Array | None) -> _Jet:
    """The function x sigmoid(beta x). For the sigmoid g, g' = g (1 - g), g'' = g' (1 - 2 g)."""
    if beta is None:
        raise ValueError("swish needs its beta")
    g = jax.nn.sigmoid(beta * x)
    slope = g * (1 - g)
    by_beta = x * (2 * slope + beta * x * slope * (1 - 2 * g))
    return _Jet(
        x * g,
        g + beta * x * slope,
        beta * (2 * slope + beta * x * slope * (1 - 2 * g)),
        (x * x * slope, by_beta),
    )


def _tanh(x: jax.Array, _: jax.Array | None) -> _Jet:
    value = jnp.tanh(x)
    derivative = 1 - value * value
    return _Jet(value, derivative, -2 * value * derivative)


NONLINEARITIES: Mapping[NonlinearityName, Nonlinearity] = {
    "elu": _with_curvature(_elu),
    "identity": _with_curvature(_identity),
    "relu": _with_curvature(_relu),
    "softplus": _with_curvature(_softplus),
    "square": _with_curvature(_square),
    "swish": _with_curvature(_swish),
    "tanh": _with_curvature(_tanh),
}
