"""Moving batch norm between the blocks (FFJORD's released code; docs/numerics.md, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from harness.errors import BackendError
from harness.trial import BatchNorm

__all__ = ["Normed", "denormed", "normed"]

EPS = 1e-4


class Normed(NamedTuple):
    """What a norm did.

    Arguments:
        y: The state after it.
        a: What it adds to a, 0-dimensional.
        buffers: In training, its buffers after the step.
    """

    y: Tensor
    a: Tensor
    buffers: dict[str, Tensor]


def normed(x: Tensor, arrays: Mapping[str, Tensor], spec: BatchNorm, *, training: bool) -> Normed:
    """Data towards base.

    Arguments:
        x: State, [batch, features] or [batch, channels, H, W].
        arrays: `log_scale`, `shift`, `running_mean`, `running_var` [features] and `steps`.
        spec: Its settings.
        training: Use the batch statistics as `spec.lag` says, and return new buffers.

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
            correction = 1 - spec.lag ** buffers["steps"]
            mean, variance = (
                (batch - (1 - spec.lag) * (batch - running)) / correction
                for batch, running in zip(of_batch, (mean, variance), strict=True)
            )
    log_scale = arrays["log_scale"] - 0.5 * torch.log(variance + EPS)
    y = (x - _features(mean, x)) * _features(log_scale.exp(), x) + _features(arrays["shift"], x)
    return Normed(y, -x[0, 0].numel() * log_scale.sum(), buffers)


def denormed(y: Tensor, arrays: Mapping[str, Tensor]) -> Tensor:
    """Base towards data, with the running statistics."""
    log_scale = arrays["log_scale"] - 0.5 * torch.log(arrays["running_var"] + EPS)
    x = (y - _features(arrays["shift"], y)) * _features(torch.exp(-log_scale), y)
    return x + _features(arrays["running_mean"], y)


def _features(vector: Tensor, x: Tensor) -> Tensor:
    """One value a feature, in a shape that meets [batch, features, ...]."""
    return vector.view(-1, *[1] * (x.dim() - 2))
