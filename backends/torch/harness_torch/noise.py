"""The random numbers of a call, as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from harness.errors import BackendError

__all__ = ["Noise", "drawn"]


class Noise(NamedTuple):
    """The random numbers of a call, most of them by block.

    Arguments:
        probes: Probes, [batch, ...].
        end_times: Uniform numbers that move the end times (`steer`).
        times: Times at which the trajectory is seen (`tpr`).
        posterior: Standard normal numbers that draw the z0 of an autoencoder, [batch, latent].
    """

    probes: Mapping[int, Tensor] = {}
    end_times: Mapping[int, float] = {}
    times: Mapping[int, Sequence[float]] = {}
    posterior: Tensor | None = None


def drawn(draws: Mapping[int, Any], slot: str, block: int) -> Any:  # noqa: ANN401
    """The entry of one block; BackendError if the batch has none."""
    if block not in draws:
        raise BackendError(f"the batch has no '{slot}/{block}', but a regularizer needs it")
    return draws[block]
