"""The random numbers of a call, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from harness.architecture.noise import PATH_TIME, POSTERIOR, probe_axes
from harness.architecture.transforms import Shape
from harness.errors import BackendError
from harness.interface import Array, Batch, Control

__all__ = ["Noise", "drawn", "noise_of"]


class Noise(NamedTuple):
    """The random numbers of a call, most of them by block.

    Arguments:
        probes: Probes, [batch, ...], or several of them, [draws, probes, batch, ...], without an
            axis that has the length 1.
        end_times: Uniform numbers that move the end times (`steer`).
        times: Times at which the trajectory is seen (`tpr`).
        posterior: Standard normal numbers that draw the z0 of an autoencoder, [batch, latent].
        path_times: Of flow matching, the time of each example in the block, [batch].
        points: Where it is then, [batch, *event_shape].
        rates: The rate of its path there.
    """

    probes: Mapping[int, Tensor] = {}
    end_times: Mapping[int, float] = {}
    times: Mapping[int, Sequence[float]] = {}
    posterior: Tensor | None = None
    path_times: Mapping[int, Tensor] = {}
    points: Mapping[int, Tensor] = {}
    rates: Mapping[int, Tensor] = {}


def noise_of(
    batch: Batch, shape: Shape, tensor: Callable[[Array], Tensor], control: Control
) -> Noise:
    """The random numbers of a batch.

    Arguments:
        batch: The batch; its probes may be int8.
        shape: Of the flow's state, which says whether probes are images.
        tensor: Puts an array on the device in the model's precision.
        control: How many probes a solve has.
    """
    several = probe_axes(control.trace, control.probes, control.draws)
    probes, end_times, times, posterior = {}, {}, {}, None
    matching: dict[str, dict[int, Tensor]] = {PATH_TIME: {}, "point": {}, "rate": {}}
    for slot, value in batch.noise.items():
        kind, _, block = slot.partition("/")
        if kind == "probe":
            own = value.shape[1 + len(several) :] if len(shape) > 1 else (-1,)
            probe = tensor(value).view(len(value), *several, *own)
            probes[int(block)] = probe.movedim(0, len(several)).contiguous()
        elif kind == "end_time":
            end_times[int(block)] = float(value)
        elif kind == "tpr_times":
            times[int(block)] = value.tolist()
        elif kind == POSTERIOR:
            posterior = tensor(value)
        elif kind in matching:
            matching[kind][int(block)] = tensor(value)
    return Noise(probes, end_times, times, posterior, *matching.values())


def drawn(draws: Mapping[int, Any], slot: str, block: int) -> Any:  # noqa: ANN401
    """The entry of one block; BackendError if the batch has none."""
    if block not in draws:
        raise BackendError(f"the batch has no '{slot}/{block}', but this call needs it")
    return draws[block]
