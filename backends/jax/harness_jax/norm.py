"""Moving batch norm (docs/numerics.md, section 4; FFJORD's released code)."""

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
"""`log_scale`, `shift`, `running_mean`, `running_var` [features] and `steps` []."""


class Normed(NamedTuple):
    """What a norm makes of a state.

    Arguments:
        y: The state after it, [batch, features, ...].
        a: What it adds to a, less the log of the determinant of its Jacobian, [].
        buffers: The buffers after a training step; in evaluation empty.
    """

    y: jax.Array
    a: jax.Array
    buffers: dict[str, jax.Array]


def normed(x: jax.Array, arrays: Arrays, spec: BatchNorm, *, training: bool) -> Normed:
    """(x - m) exp(log_scale) / sqrt(v + 1e-4) + shift.

    Arguments:
        x: State, [batch, features, ...].
        arrays: Those of the norm.
        spec: Its settings.
        training: Use the batch's statistics as `spec.lag` says, and return new buffers.

    Raises:
        BackendError: A batch in training has no variance, being one value a feature.
    """
    mean, var, buffers = arrays["running_mean"], arrays["running_var"], {}
    if training:
        axes = (0, *range(2, x.ndim))
        if x.size == x.shape[1]:
            raise BackendError("batch norm needs a batch of at least 2 in training")
        batch = {
            "running_mean": jnp.mean(x, axes),
            "running_var": jnp.var(x, axes, ddof=1),
        }
        if spec.lag:
            mean, var = (_lagged(spec.lag, batch[k], arrays[k], arrays["steps"]) for k in batch)
        buffers = {
            k: arrays[k] - spec.decay * (arrays[k] - lax.stop_gradient(b))
            for k, b in batch.items()
        } | {"steps": arrays["steps"] + 1}
    log_gain = arrays["log_scale"] - 0.5 * jnp.log(var + EPS)
    y = (x - _over(mean, x)) * _over(jnp.exp(log_gain), x) + _over(arrays["shift"], x)
    return Normed(y, -x[0, 0].size * jnp.sum(log_gain), buffers)


def denormed(z: jax.Array, arrays: Arrays) -> jax.Array:
    """The inverse of `normed` in evaluation."""
    gain = jnp.exp(0.5 * jnp.log(arrays["running_var"] + EPS) - arrays["log_scale"])
    return (z - _over(arrays["shift"], z)) * _over(gain, z) + _over(arrays["running_mean"], z)


def _lagged(lag: float, batch: jax.Array, running: jax.Array, steps: jax.Array) -> jax.Array:
    """The batch's statistic, held back towards the running one."""
    return (batch - (1 - lag) * (batch - running)) / (1 - lag ** (steps + 1))


def _over(vector: jax.Array, x: jax.Array) -> jax.Array:
    """[features] -> [features, 1...], to meet x [batch, features, ...]."""
    return vector.reshape(-1, *(1,) * (x.ndim - 2))
