"""The batch of a training step: its rows and its noise, the same bits in every backend."""

from __future__ import annotations

import numpy as np

from harness.architecture.noise import draw, noise_slots
from harness.datasets.base import Batching, Dataset
from harness.interface import Batch
from harness.specs.solver import carries_log_volume
from harness.trial import Trial

__all__ = ["training_batch"]


def training_batch(trial: Trial, dataset: Dataset, step: int) -> tuple[Batch, float]:
    """The batch of a step, and the mean log-volume of its rows.

    Arguments:
        trial: The trial.
        dataset: Its data.
        step: 0-based number of the optimiser step.
    """
    rows = dataset.training_batch(trial.seed, step, Batching.of(trial.training))
    slots = noise_slots(trial, dataset.info.event_shape, "train", len(rows.x))
    noise = draw(slots, trial.seed, step, trial.dtype)
    carried = rows.log_volume if carries_log_volume(trial.solver) else None
    return Batch(rows.x.astype(trial.dtype), noise, carried), float(np.mean(rows.log_volume))
