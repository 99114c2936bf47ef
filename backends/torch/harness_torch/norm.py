"""Moving batch norm between the blocks (docs/numerics.md, section 4; FFJORD's released code)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from harness.errors import BackendError
from harness.trial import BatchNorm

__all__ = ["Normed", "denormed", "normed"]

EPS = 1e-4


Arrays = Mapping[str, Tensor]
"""`log_scale`, `shift`, `running_mean`, `running_var` [features] and `steps`, 0-dimensional."""


class Normed(NamedTuple):
    """What a norm makes of a state.

    Arguments:
        y: The state after it, [batch, features, ...].
        a: What it adds to a, less the log of the determinant of its Jacobian, 0-dimensional.
        buffers: Its buffers after a training step; in evaluation none.
    """

    y: Tensor
    a: Tensor
    buffers: dict[str, Tensor]


def normed(x: Tensor, arrays: Arrays, spec: BatchNorm, *, training: bool) -> Normed:
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
    buffers: dict[str, Tensor] = {}
    if training:
        rows = x.transpose(0, 1).flatten(1)
        if rows.shape[1] < 2:
            raise BackendError("batch norm needs a batch of at least 2 in training")
        of_batch = rows.mean(dim=1), rows.var(dim=1)
        with torch.no_grad():
            buffers = {
                "running_mean": mean - spec.decay * (mean - of_batch[0]),
                "running_var": variance - spec.decay * (variance - of_batch[1]),
                "steps": arrays["steps"] + 1,
            }
        if spec.lag:
            mean, variance = (
                _lagged(spec.lag, batch, running, arrays["steps"])
                for batch, running in zip(of_batch, (mean, variance), strict=True)
            )
    log_gain = arrays["log_scale"] - 0.5 * torch.log(variance + EPS)
    y = (x - _features(mean, x)) * _features(log_gain.exp(), x) + _features(arrays["shift"], x)
    return Normed(y, -x[0, 0].numel() * log_gain.sum(), buffers)


def denormed(y: Tensor, arrays: Arrays) -> Tensor:
    """The inverse of `normed` in evaluation."""
    log_gain = arrays["log_scale"] - 0.5 * torch.log(arrays["running_var"] + EPS)
    x = (y - _features(arrays["shift"], y)) * _features(torch.exp(-log_gain), y)
    return x + _features(arrays["running_mean"], y)


def _lagged(lag: float, batch: Tensor, running: Tensor, steps: Tensor) -> Tensor:
    """The batch's statistic, held back towards the running one."""
    return (batch - (1 - lag) * (batch - running)) / (1 - lag ** (steps + 1))


def _features(vector: Tensor, x: Tensor) -> Tensor:
    """One value a feature, in a shape that meets x [batch, features, ...]."""
    return vector.view(-1, *[1] * (x.dim() - 2))
