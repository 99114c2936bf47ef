"""The random numbers of a call, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from harness.architecture.noise import POSTERIOR
from harness.architecture.transforms import Shape
from harness.errors import BackendError
from harness.interface import Array, Batch

__all__ = ["Noise", "drawn", "noise_of"]


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


def noise_of(batch: Batch, shape: Shape, tensor: Callable[[Array], Tensor]) -> Noise:
    """The random numbers of a batch.

    Arguments:
        batch: The batch; its probes may be int8.
        shape: Of the flow's state, which says whether probes are images.
        tensor: Puts an array on the device in the model's precision.
    """
    probes, end_times, times, posterior = {}, {}, {}, None
    for slot, value in batch.noise.items():
        kind, _, block = slot.partition("/")
        if kind == "probe":
            own = value.shape[1:] if len(shape) > 1 else (-1,)
            probes[int(block)] = tensor(value).view(len(value), *own)
        elif kind == "end_time":
            end_times[int(block)] = float(value)
        elif kind == "tpr_times":
            times[int(block)] = value.tolist()
        elif kind == POSTERIOR:
            posterior = tensor(value)
    return Noise(probes, end_times, times, posterior)


def drawn(draws: Mapping[int, Any], slot: str, block: int) -> Any:  # noqa: ANN401
    """The entry of one block; BackendError if the batch has none."""
    if block not in draws:
        raise BackendError(f"the batch has no '{slot}/{block}', but a regularizer needs it")
    return draws[block]
