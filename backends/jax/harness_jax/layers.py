"""Layers that see the time, and the nonlinearities between them.

At a fixed time t every layer is affine in h: h -> A(t) h + c(t). Its three uses, `apply`,
`tangent` v -> A v and `cotangent` u -> A^T u, are all that values, forward-mode and reverse-mode
derivatives of the dynamics need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["LAYERS", "NONLINEARITIES", "Affine", "concat", "concatsquash"]

Arrays = Mapping[str, jax.Array]


class Affine(NamedTuple):
    """A layer at one time.

    Arguments:
        matrix: A(t), [out, in].
        shift: c(t), [out].
    """

    matrix: jax.Array
    shift: jax.Array

    def apply(self, h: jax.Array) -> jax.Array:
        """A h + c for each row of h, [..., in] -> [..., out]."""
        return h @ self.matrix.T + self.shift

    def tangent(self, v: jax.Array) -> jax.Array:
        """A v for each row of v, [..., in] -> [..., out]."""
        return v @ self.matrix.T

    def cotangent(self, u: jax.Array) -> jax.Array:
        """A^T u for each row of u, [..., out] -> [..., in]."""
        return u @ self.matrix


def concat(arrays: Arrays, t: jax.Array) -> Affine:
    """W [t, h] + b; column 0 of the weight belongs to t (FFJORD's code, ConcatLinear)."""
    weight = arrays["weight"]
    return Affine(weight[:, 1:], weight[:, 0] * t + arrays["bias"])


def concatsquash(arrays: Arrays, t: jax.Array) -> Affine:
    """(W h + b) sigmoid(w_g t + b_g) + w_t t (FFJORD's code, ConcatSquashLinear).

    The gate scales the rows of W rather than those of W h: the same number, but touches [out, in]
    entries once instead of [batch, out] entries for the value and for every tangent.
    """
    gate = jax.nn.sigmoid(arrays["gate_weight"] * t + arrays["gate_bias"])
    return Affine(
        gate[:, None] * arrays["weight"], gate * arrays["bias"] + arrays["time_weight"] * t
    )


LAYERS: Mapping[str, Callable[[Arrays, jax.Array], Affine]] = {
    "concat": concat,
    "concatsquash": concatsquash,
}

Nonlinearity = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
Jet = Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


def _with_curvature(jet: Jet) -> Nonlinearity:
    """Makes x -> (value, derivative) of x -> (value, derivative, second derivative).

    Differentiating the pair by its own second derivative spares autodiff the chain that computed
    the value, and gives relu and elu one convention at 0.
    """

    @jax.custom_jvp
    def pair(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, derivative, _ = jet(x)
        return value, derivative

    def rule(
        primals: tuple[jax.Array], tangents: tuple[jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        value, derivative, curvature = jet(*primals)
        (x_dot,) = tangents
        return (value, derivative), (derivative * x_dot, curvature * x_dot)

    pair.defjvp(rule)
    return pair


def _elu(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    value = jnp.where(x > 0, x, jnp.expm1(jnp.minimum(x, 0)))
    derivative = jnp.where(x > 0, jnp.ones_like(x), value + 1)
    return value, derivative, jnp.where(x > 0, jnp.zeros_like(x), derivative)


def _identity(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return x, jnp.ones_like(x), jnp.zeros_like(x)


def _relu(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return jnp.maximum(x, 0), (x > 0).astype(x.dtype), jnp.zeros_like(x)


def _softplus(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    # One exponential for both: e = exp(-|x|) never overflows.
    e = jnp.exp(-jnp.abs(x))
    value = jnp.maximum(x, 0) + jnp.log1p(e)
    derivative = jnp.where(x >= 0, 1, e) / (1 + e)
    return value, derivative, derivative * (1 - derivative)


def _square(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return x * x, 2 * x, jnp.full_like(x, 2)


def _tanh(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    value = jnp.tanh(x)
    derivative = 1 - value * value
    return value, derivative, -2 * value * derivative


NONLINEARITIES: Mapping[str, Nonlinearity] = {
    "elu": _with_curvature(_elu),
    "identity": _with_curvature(_identity),
    "relu": _with_curvature(_relu),
    "softplus": _with_curvature(_softplus),
    "square": _with_curvature(_square),
    "tanh": _with_curvature(_tanh),
}
