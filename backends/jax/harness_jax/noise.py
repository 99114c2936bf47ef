"""The random arrays of a call, stacked by run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.architecture.noise import PATH_TIME, POSTERIOR, needs_probe, probe_axes
from harness.errors import BackendError
from harness.interface import Array, Arrays, Batch
from harness.trial import TraceName
from harness_jax.flow import Flow
from harness_jax.runs import Run

__all__ = ["LOG_VOLUME", "drawn", "noise_of", "points_of"]

LOG_VOLUME = "log_volume"
"""`Batch.log_volume`, which travels with the noise."""


def noise_of(
    flow: Flow,
    batch: Batch,
    trace: TraceName | None,
    dtype: np.dtype[np.floating],
    *,
    training: bool = False,
    regularize: bool = False,
    probes: int = 1,
    draws: int = 1,
) -> Arrays:
    """What a call needs: `<run>/probe`, `<run>/end_time`, `<run>/tpr_times`, [cells, ...] each,
    and the `posterior` of an autoencoder, [batch, latent]; and the batch's `LOG_VOLUME`, if any.

    Rademacher probes stay int8. Several of a solve are [cells, draws, probes, batch, ...], without
    an axis that has the length 1.

    Raises:
        BackendError: The batch lacks one.
    """
    regularizers: Sequence[str] = tuple(flow.regularizers) if regularize else ()
    kinds = []
    if trace is not None and needs_probe(trace, regularizers):
        kinds.append("probe")
    if training and "steer" in regularizers:
        kinds.append("end_time")
    if "tpr" in regularizers:
        kinds.append("tpr_times")
    noise = {}
    if flow.model.posterior is not None:
        noise[POSTERIOR] = drawn(batch, POSTERIOR).astype(dtype)
    if batch.log_volume is not None:
        noise[LOG_VOLUME] = np.asarray(batch.log_volume, dtype)
    for run in flow.parts:
        if not isinstance(run, Run) or run.kind.block is None:
            continue
        block = run.kind.block
        for kind in kinds:
            value = np.stack([drawn(batch, f"{kind}/{index}") for index in run.blocks])
            if kind == "probe":
                shape = block.bottleneck_shape if trace == "bottleneck" else block.shape
                several = probe_axes(trace or "exact", probes, draws)
                # Of a sampling the batch has no rows, but its noise has.
                value = value.reshape(*value.shape[:2], *several, *shape)
                value = np.moveaxis(value, 1, 1 + len(several))
            noise[f"{run.name}/{kind}"] = value if value.dtype == np.int8 else value.astype(dtype)
    return noise


def points_of(flow: Flow, batch: Batch, dtype: np.dtype[np.floating]) -> Arrays:
    """What a step of flow matching needs: `<run>/path_time` [cells, batch], `<run>/point` and
    `<run>/rate` [cells, batch, *shape].

    Raises:
        BackendError: The batch lacks one.
    """
    noise = {}
    for run in flow.parts:
        if not isinstance(run, Run) or run.kind.block is None:
            continue
        for kind, shape in ((PATH_TIME, ()), *((k, run.kind.block.shape) for k in _PLACES)):
            value = np.stack([drawn(batch, f"{kind}/{index}") for index in run.blocks])
            noise[f"{run.name}/{kind}"] = value.reshape(*value.shape[:2], *shape).astype(dtype)
    return noise


_PLACES = ("point", "rate")


def drawn(batch: Batch, slot: str) -> Array:
    """One random array.

    Raises:
        BackendError: The batch lacks it.
    """
    if slot not in batch.noise:
        raise BackendError(f"the batch has no noise '{slot}', but this call needs it")
    return batch.noise[slot]
