"""The optimisers of docs/numerics.md, section 7; the learning rate is a traced value, so changing
it recompiles nothing.

References:
    D. Kingma, J. Ba: Adam: a method for stochastic optimization, 2014,
    https://arxiv.org/abs/1412.6980, algorithms 1 and 2.
    I. Loshchilov, F. Hutter: Decoupled weight decay regularization, 2017,
    https://arxiv.org/abs/1711.05101.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from harness.trial import Optimizer

__all__ = ["Moments", "initial_moments", "update"]

Stacked = Mapping[str, jax.Array]

BETAS = (0.9, 0.999)


class Moments(NamedTuple):
    """Moments by name, v for adamax the infinity norm, and the number of steps taken (int32)."""

    steps: jax.Array
    m: Stacked
    v: Stacked


def initial_moments(params: Stacked, device: jax.Device) -> Moments:
    """Zeros."""

    def zeros() -> Stacked:
        return {
            name: jax.device_put(np.zeros(value.shape, value.dtype), device)
            for name, value in params.items()
        }

    return Moments(jax.device_put(np.int32(0), device), zeros(), zeros())


def update(
    spec: Optimizer, gradient: Stacked, moments: Moments, params: Stacked, lr: jax.Array
) -> tuple[dict[str, jax.Array], Moments]:
    """One step: the parameters and moments after it."""
    steps = moments.steps + 1
    if spec.clip_norm is not None:
        squares = [jnp.sum(g * g) for g in gradient.values()]
        scale = jnp.minimum(1, spec.clip_norm / jnp.sqrt(jnp.stack(squares).sum()))
        gradient = {name: scale * g for name, g in gradient.items()}
    moved, m, v = {}, {}, {}
    for name, param in params.items():
        moved[name], m[name], v[name] = _update(
            spec, gradient[name], moments.m[name], moments.v[name], param, steps, lr
        )
    return moved, Moments(steps, m, v)


def _update(
    spec: Optimizer,
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    param: jax.Array,
    steps: jax.Array,
    lr: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One array and its moments."""
    b1, b2 = BETAS
    c1, c2 = (_correction(beta, steps, param.dtype) for beta in BETAS)
    if spec.name in ("adam", "adamax"):
        g = g + spec.weight_decay * param
    elif spec.name == "adamw":
        param = param * (1 - lr * spec.weight_decay)
    m = b1 * m + (1 - b1) * g
    if spec.name == "adamax":
        v = jnp.maximum(b2 * v, jnp.abs(g) + spec.eps)
        return param - lr / c1 * m / v, m, v
    v = b2 * v + (1 - b2) * g * g
    if spec.name == "adam_eps_hat":
        direction = jnp.sqrt(c2) / c1 * m / (jnp.sqrt(v) + spec.eps)
    else:
        direction = m / c1 / (jnp.sqrt(v / c2) + spec.eps)
    return param - lr * direction, m, v


def _correction(beta: float, steps: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """1 - beta^steps, without the cancellation that costs float32 four digits in early steps."""
    return -jnp.expm1(steps.astype(dtype) * math.log(beta))
