"""The optimiser; the learning rate is a traced value, so changing it recompiles nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
import optax  # type: ignore[import-untyped]

__all__ = ["AdamState", "adam_init", "adam_step"]

Stacked = Mapping[str, jax.Array]

_ADAM = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)


class AdamState(NamedTuple):
    """Moments by name, and the number of steps taken (int32)."""

    steps: jax.Array
    m: Stacked
    v: Stacked


def adam_init(params: Stacked, device: jax.Device) -> AdamState:
    """Zero moments."""

    def zeros() -> Stacked:
        return {
            name: jax.device_put(np.zeros(value.shape, value.dtype), device)
            for name, value in params.items()
        }

    return AdamState(jax.device_put(np.int32(0), device), zeros(), zeros())


def adam_step(
    gradient: Stacked, state: AdamState, params: Stacked, lr: jax.Array
) -> tuple[dict[str, jax.Array], AdamState]:
    """Adam: betas 0.9 and 0.999, eps 1e-8 added after bias correction.

    References:
        D. Kingma, J. Ba: Adam: a method for stochastic optimization, 2014,
        https://arxiv.org/abs/1412.6980, algorithm 1.
    """
    before = optax.ScaleByAdamState(state.steps, dict(state.m), dict(state.v))
    direction, after = _ADAM.update(dict(gradient), before)
    moved = {name: value - lr * direction[name] for name, value in params.items()}
    return moved, AdamState(after.count, after.mu, after.nu)
