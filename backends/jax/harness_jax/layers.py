"""Layers that see the time, and the nonlinearities between them.

At a fixed time t every layer is affine in h: h -> A(t) h + c(t). Its three uses, `apply`,
`tangent` v -> A v and `cotangent` u -> A^T u, are all that values, forward-mode and reverse-mode
derivatives of the dynamics need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import jax
import jax.numpy as jnp

from harness.trial import LayerName, NonlinearityName

__all__ = ["LAYERS", "NONLINEARITIES", "Affine", "Layers", "concat", "concatsquash"]

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


Layers = Callable[[jax.Array], list[Affine]]
"""t -> all layers of a block at that time."""


def concat(layers: Sequence[Arrays]) -> Layers:
    """W [t, h] + b; column 0 of the weight belongs to t (FFJORD's code, ConcatLinear)."""
    columns = jnp.concatenate([arrays["weight"][:, 0] for arrays in layers])
    bias, ends = _joined(layers, "bias")

    def at(t: jax.Array) -> list[Affine]:
        shifts = jnp.split(bias + columns * t, ends)
        return [Affine(a["weight"][:, 1:], c) for a, c in zip(layers, shifts, strict=True)]

    return at


def concatsquash(layers: Sequence[Arrays]) -> Layers:
    """(W h + b) sigmoid(w_g t + b_g) + w_t t (FFJORD's code, ConcatSquashLinear).

    The gate scales the rows of W rather than those of W h: the same number, but it touches
    [out, in] entries once instead of [batch, out] entries for the value and every tangent.
    """
    bias, ends = _joined(layers, "bias")
    gate_weight, _ = _joined(layers, "gate_weight")
    gate_bias, _ = _joined(layers, "gate_bias")
    time_weight, _ = _joined(layers, "time_weight")

    def at(t: jax.Array) -> list[Affine]:
        gate = jax.nn.sigmoid(gate_weight * t + gate_bias)
        shifts = jnp.split(time_weight * t + bias * gate, ends)
        return [
            Affine(a["weight"] * g[:, None], c)
            for a, g, c in zip(layers, jnp.split(gate, ends), shifts, strict=True)
        ]

    return at


def _joined(layers: Sequence[Arrays], name: str) -> tuple[jax.Array, list[int]]:
    """One kind of vector of all layers end to end, and where the layers but the first begin: what
    depends on t alone is computed in one go.
    """
    vectors = [arrays[name] for arrays in layers]
    return jnp.concatenate(vectors), list(accumulate(len(vector) for vector in vectors[:-1]))


LAYERS: Mapping[LayerName, Callable[[Sequence[Arrays]], Layers]] = {
    "concat": concat,
    "concatsquash": concatsquash,
}
"""By name: (arrays of each layer) -> the layers as functions of t."""

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


NONLINEARITIES: Mapping[NonlinearityName, Nonlinearity] = {
    "elu": _with_curvature(_elu),
    "identity": _with_curvature(_identity),
    "relu": _with_curvature(_relu),
    "softplus": _with_curvature(_softplus),
    "square": _with_curvature(_square),
    "tanh": _with_curvature(_tanh),
}
