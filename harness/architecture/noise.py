"""The random arrays that a call of a model needs: their slots, shapes, laws, and their drawing."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.architecture.transforms import Shape, blocks_of
from harness.streams.stream import Stream
from harness.trial import FlowMatching, TraceName, Trial

__all__ = [
    "BASE",
    "DRAW_PHASE",
    "PATH_TIME",
    "POSTERIOR",
    "TPR_TIMES",
    "NoiseSlot",
    "draw",
    "needs_probe",
    "noise_slots",
    "probe_axes",
]

BASE = "base"
"""Slot of base samples, [batch, *event_shape]: those that become data, or in flow matching those
that rows are joined with."""

PATH_TIME = "path_time"
"""Slots, by block, of the times of flow matching, [batch]."""

DRAW_PHASE = (5**0.5 - 1) / 2
"""With several draws of the probes the ones at s in [0, 1] of a block have the index
floor(s (draws - 1) + DRAW_PHASE): about the nearest of `draws` equally spaced times. The golden
ratio, which no fraction is near, keeps the stages of equal steps away from the jumps, where
rounding would decide."""

POSTERIOR = "posterior"
"""Slot of the noise that draws the z0 of an autoencoder, [batch, latent]."""

TPR_TIMES = 2
"""Times within the interval at which `tpr` looks at the trajectory (its authors' setting)."""


@dataclass(frozen=True)
class NoiseSlot:
    """Shape and law of a random array that a call needs; `uniform` is on (0, 1)."""

    shape: Shape
    law: Literal["gaussian", "rademacher", "uniform"]


def needs_probe(trace: TraceName, regularizer: Collection[str]) -> bool:
    """True if the dynamics use a random probe: for the trace or for a Jacobian penalty."""
    return trace != "exact" or not {"rnode.jacobian", "jacobian_sum"}.isdisjoint(regularizer)


def probe_axes(trace: TraceName, probes: int, draws: int) -> Shape:
    """Lengths of the axes that the slot of a probe has between its rows and its shape: the draws
    and the vectors of each, without axes of the length 1.

    `hutch++` takes a third of its products with vectors that span a space, a third with an
    orthonormal basis of what they become and a third with the vectors for the rest: of the vectors
    that are drawn those of the space come first.
    """
    vectors = 2 * probes // 3 if trace == "hutch++" else probes
    return tuple(length for length in (draws, vectors) if length > 1)


def noise_slots(
    trial: Trial,
    event_shape: Shape,
    purpose: Literal["train", "evaluate", "sample"],
    size: int,
    trace: TraceName | None = None,
    probes: int | None = None,
    draws: int | None = None,
) -> dict[str, NoiseSlot]:
    """Returns the slots a call on `size` examples must find in `Batch.noise`; `trace`, `probes`
    and `draws` stand in place of those of the trial's evaluation.

    `probe/<block>` has one probe per example, drawn anew for each solve and fixed within it, in
    the shape of the block's state, or of its bottleneck for the trace of that name, or several of
    them (`probe_axes`);
    `end_time/<block>` and `tpr_times/<block>` are one number, and `TPR_TIMES` of them, for the
    whole batch; `posterior` draws the z0 of an autoencoder; `base` is the base sample that
    `Model.sample` maps to data, for an autoencoder its z. Flow matching trains on `base` samples
    and `path_time/<block>`, of which `harness.architecture.matching.matched` makes the points that
    a model finds in their place.
    """
    posterior = trial.model.posterior
    if purpose == "sample":
        base = event_shape if posterior is None else (posterior.latent,)
        return {BASE: NoiseSlot((size, *base), "gaussian")}
    if purpose == "train" and isinstance(trial.objective, FlowMatching):
        times = {
            f"{PATH_TIME}/{block.index}": NoiseSlot((size,), "uniform")
            for block in blocks_of(trial.model, event_shape)
        }
        return {BASE: NoiseSlot((size, *event_shape), "gaussian"), **times}
    if purpose == "train":
        said = trial.training
        trace, probes, draws = said.trace, said.probes, said.draws
    trace = trace or trial.evaluation.trace
    several = probe_axes(trace, probes or trial.evaluation.probes, draws or trial.evaluation.draws)
    # Regularizers are integrated in training only, unless an evaluation asks for them.
    regularizer = tuple(trial.regularizer) if purpose == "train" else ()
    slots = {}
    if posterior is not None:
        slots[POSTERIOR] = NoiseSlot((size, posterior.latent), "gaussian")
    for block in blocks_of(trial.model, event_shape):
        if needs_probe(trace, regularizer):
            shape = block.bottleneck_shape if trace == "bottleneck" else block.shape
            whole = (size, *several, *shape)
            slots[f"probe/{block.index}"] = NoiseSlot(whole, trial.training.probe)
        if "steer" in regularizer:
            slots[f"end_time/{block.index}"] = NoiseSlot((), "uniform")
        if "tpr" in regularizer:
            slots[f"tpr_times/{block.index}"] = NoiseSlot((TPR_TIMES,), "uniform")
    return slots


def draw(
    slots: Mapping[str, NoiseSlot],
    seed: int,
    step: int,
    dtype: npt.DTypeLike,
    prefix: str = "",
    first_row: int = 0,
) -> dict[str, np.ndarray]:
    """Draws every slot from its own stream `<prefix><slot>`, in the precision `dtype`; Rademacher
    probes stay int8.

    With `first_row` the arrays are those rows, from that one on, of what is drawn for more rows:
    the noise of a row does not depend on the batch that it is in.
    """
    noise = {}
    for name, slot in slots.items():
        stream = Stream(seed, prefix + name, step, first_row * math.prod(slot.shape[1:]))
        if slot.law == "rademacher":
            noise[name] = stream.rademacher(slot.shape)
        elif slot.law == "uniform":
            noise[name] = stream.uniform(slot.shape).astype(dtype)
        else:
            noise[name] = stream.normal(slot.shape).astype(dtype)
    return noise
