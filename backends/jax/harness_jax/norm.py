"""Moving batch norm between the blocks (docs/numerics.md, section 4; FFJORD's released code)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from harness.errors import BackendError
from harness.trial import BatchNorm

__all__ = ["Normed", "denormed", "normed"]

EPS = 1e-4

Arrays = Mapping[str, jax.Array]
"""`log_scale`, `shift`, `running_mean`, `running_var` [features] and `steps`, 0-dimensional."""


class Normed(NamedTuple):
    """What a norm makes of a state.

    Arguments:
        y: The state after it, [batch, features, ...].
        a: What it adds to a, less the log of the determinant of its Jacobian, 0-dimensional.
        buffers: Its buffers after a training step; in evaluation none.
    """

    y: jax.Array
    a: jax.Array
    buffers: dict[str, jax.Array]


def normed(x: jax.Array, arrays: Arrays, spec: BatchNorm, *, training: bool) -> Normed:
    """The state (x - mean) exp(log_scale) / sqrt(variance + 1e-4) + shift.

    Arguments:
        x: State, [batch, features, ...].
        arrays: Those of the norm.
        spec: Its settings.
        training: Use the batch's statistics as `spec.lag` says, and return new buffers.

    Raises:
        BackendError: A batch in training has no variance, being one value a feature.
    """
    mean, variance = arrays["running_mean"], arrays["running_var"]
    buffers: dict[str, jax.Array] = {}
    if training:
        axes = (0, *range(2, x.ndim))
        if x.size == x.shape[1]:
            raise BackendError("batch norm needs a batch of at least 2 in training")
        of_batch = {"running_mean": jnp.mean(x, axes), "running_var": jnp.var(x, axes, ddof=1)}
        if spec.lag:
            mean, variance = (
                _lagged(spec.lag, batch, arrays[name], arrays["steps"])
                for name, batch in of_batch.items()
            )
        buffers = {
            name: arrays[name] - spec.decay * (arrays[name] - lax.stop_gradient(batch))
            for name, batch in of_batch.items()
        } | {"steps": arrays["steps"] + 1}
    log_gain = arrays["log_scale"] - 0.5 * jnp.log(variance + EPS)
    y = (x - _features(mean, x)) * _features(jnp.exp(log_gain), x) + _features(arrays["shift"], x)
    return Normed(y, -x[0, 0].size * jnp.sum(log_gain), buffers)


def denormed(y: jax.Array, arrays: Arrays) -> jax.Array:
    """The inverse of `normed` in evaluation."""
    gain = jnp.exp(0.5 * jnp.log(arrays["running_var"] + EPS) - arrays["log_scale"])
    x = (y - _features(arrays["shift"], y)) * _features(gain, y)
    return x + _features(arrays["running_mean"], y)


def _lagged(lag: float, batch: jax.Array, running: jax.Array, steps: jax.Array) -> jax.Array:
    """The batch's statistic, held back towards the running one."""
    return (batch - (1 - lag) * (batch - running)) / (1 - lag ** (steps + 1))


def _features(vector: jax.Array, x: jax.Array) -> jax.Array:
    """One value a feature, in a shape that meets x [batch, features, ...]."""
    return vector.reshape(-1, *(1,) * (x.ndim - 2))
