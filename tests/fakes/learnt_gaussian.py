"""A Gaussian that flow matching learns: its trial, rows and batches, for either backend."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from harness.architecture.matching import matched
from harness.architecture.noise import draw, noise_slots
from harness.interface import Batch, Control, Model
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    EndTime,
    FlowMatching,
    ModelSpec,
    Optimizer,
    Training,
    Trial,
)

__all__ = ["OBJECTIVES", "check_that_a_gaussian_is_learnt", "gaussian_batch", "gaussian_trial"]

MEAN, SPREAD = np.array([1.0, -0.5]), np.array([0.4, 1.6])
SIZE, STEPS = 256, 300

OBJECTIVES = (
    (FlowMatching(), 1, math.pi / 2 * SPREAD.sum()),
    (FlowMatching("trigonometric"), 2, math.pi**2 / 4 * SPREAD.sum()),
)
"""Objective, number of blocks, and the floor of the loss."""


def gaussian_trial(backend: str, objective: FlowMatching, blocks: int = 1) -> Trial:
    return Trial(
        DatasetRef("none", "none"),
        backend,
        AdaptiveSolver("dopri5"),
        model=ModelSpec("concatsquash", (32, 32), "tanh", blocks, EndTime(0.5)),
        training=Training(batch=SIZE, trace="exact", optimizer=Optimizer(lr=1e-2)),
        precision="float64",
        objective=objective,
    )


def _rows(step: int, size: int) -> np.ndarray:
    return np.asarray(MEAN + SPREAD * Stream(1, "rows", step).normal((size, 2)))


def gaussian_batch(trial: Trial, step: int) -> Batch:
    noise = draw(noise_slots(trial, (2,), "train", SIZE), trial.seed, step, trial.dtype)
    return matched(trial, Batch(_rows(step, SIZE), noise))


def check_that_a_gaussian_is_learnt(
    trial: Trial, floor: float, open_model: Callable[[Trial, int], Model]
) -> None:
    """Trains and measures. It is the same computation each time: the bars are what it leaves, not
    a matter of chance.

    Arguments:
        trial: Of `gaussian_trial`.
        floor: The least loss there is.
        open_model: Opens a trial on data of so many dimensions.
    """
    model = open_model(trial, 2)
    rows = _rows(10**6, 1000)
    exact = np.mean(np.sum(((rows - MEAN) / SPREAD) ** 2, axis=1)) / 2
    exact += np.log(2 * np.pi * SPREAD.prod())

    def excess() -> float:
        """Of the NLL over the true one, nats."""
        report = model.evaluate(Batch(rows), Control(trial.solver, "exact"), ("log_prob",))
        return -float(np.mean(report.values["log_prob"])) - float(exact)

    assert excess() > 0.5
    losses = []
    for step in range(STEPS):
        rate = 1e-2 if step < STEPS // 2 else 2e-3
        control = Control(trial.solver, "exact", trial.gradient, step, lr=rate)
        losses.append(model.train_step(gaussian_batch(trial, step), control).fetch().loss)
    assert -0.01 < excess() < 0.1
    assert np.mean(losses[-50:]) == pytest.approx(floor, rel=0.2)
