"""Taylor coefficients of the solution of dz/dt = f(t, z), by arithmetic with truncated series.

One pass through the net an order, instead of derivatives of derivatives, whose programs double
with every order. A series is the list of its coefficients x_k = x^(k) / k!.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from harness_jax.net.affine import Affine

__all__ = ["nested_derivative", "solution_derivative"]

Series = list[jax.Array]


def solution_derivative(
    layers: Callable[[jax.Array], list[Affine]],
    act: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    t: jax.Array,
    z: jax.Array,
    order: int,
    *,
    residual: bool,
    constant_weights: bool,
) -> jax.Array:
    """d^order z / dt^order along the solution, [batch, *shape].

    Arguments:
        layers: The layers of f as functions of the time.
        act: Nonlinearity, x -> (value, derivative).
        t: Time, shape ().
        z: State, [batch, *shape].
        order: From 1 to 4.
        residual: f is the net less z.
        constant_weights: The weights of the layers do not depend on the time.
    """
    net = [_LayerSeries(own, constant_weights) for own in _in_time(layers, t, order)]
    zs: Series = [z]
    sums: list[Series] = [[] for _ in net[:-1]]
    for k in range(order):
        h = zs[k]
        for layer, x in zip(net, sums, strict=False):
            x.append(layer.next(h))
            h = _compose(act, x)
        f = net[-1].next(h)
        zs.append((f - zs[k] if residual else f) / (k + 1))
    return math.factorial(order) * zs[order]


def nested_derivative(
    f: Callable[[jax.Array, jax.Array], jax.Array], t: jax.Array, z: jax.Array, order: int
) -> jax.Array:
    """d^order z / dt^order along the solution of dz/dt = f(t, z), by derivatives of derivatives:
    for dynamics whose layers are not series.
    """

    def along(g: Callable[[jax.Array, jax.Array], jax.Array]) -> Any:  # noqa: ANN401
        return lambda t, z: jax.jvp(g, (t, z), (jnp.ones_like(t), f(t, z)))[1]

    derivative = f
    for _ in range(order - 1):
        derivative = along(derivative)
    return derivative(t, z)


class _LayerSeries:
    """A layer, fed one coefficient of its input after the other.

    Arguments:
        layers: Its own coefficients in time.
        constant_weight: All but the first have weight 0.
    """

    def __init__(self, layers: list[Affine], constant_weight: bool) -> None:
        self._layers = layers
        self._terms = 1 if constant_weight else len(layers)
        self._h: Series = []

    def next(self, h: jax.Array) -> jax.Array:
        """The next coefficient of the output: sum_i A_i h_{k - i} + c_k."""
        self._h.append(h)
        k = len(self._h) - 1
        out = replace(self._layers[0], shift=self._layers[k].shift).apply(h)
        for i in range(1, min(k + 1, self._terms)):
            out = out + self._layers[i].tangent(self._h[k - i])
        return out


def _in_time(
    layers: Callable[[jax.Array], list[Affine]], t: jax.Array, order: int
) -> list[list[Affine]]:
    """Coefficients in time of each layer, `order` of them."""
    strides = [layer.stride for layer in layers(t)]
    derivatives = _derivatives(
        lambda t: [(layer.weight, layer.shift) for layer in layers(t)], t, order - 1
    )
    return [
        [
            Affine(weight / math.factorial(i), shift / math.factorial(i), stride)
            for i, (weight, shift) in enumerate(series[index] for series in derivatives)
        ]
        for index, stride in enumerate(strides)
    ]


def _compose(act: Callable[[jax.Array], tuple[jax.Array, jax.Array]], x: Series) -> jax.Array:
    """The last coefficient of act(x), x having up to four (Faa di Bruno's formula)."""
    k = len(x) - 1
    value, slope = act(x[0])
    if k == 0:
        return value
    higher: Series = _derivatives(lambda x: act(x)[1], x[0], k - 1)
    if k == 1:
        return slope * x[1]
    if k == 2:
        return slope * x[2] + higher[1] / 2 * x[1] ** 2
    return slope * x[3] + higher[1] * x[1] * x[2] + higher[2] / 6 * x[1] ** 3


def _derivatives(function: Callable[[jax.Array], Any], x: jax.Array, order: int) -> list[Any]:
    """function(x) and its derivatives up to `order`; x is one number, or function elementwise."""
    values = [function(x)]
    for _ in range(order):
        function = partial(_derivative, function)
        values.append(function(x))
    return values


def _derivative(function: Callable[[jax.Array], Any], x: jax.Array) -> Any:  # noqa: ANN401
    return jax.jvp(function, (x,), (jnp.ones_like(x),))[1]
