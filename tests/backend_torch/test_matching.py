"""Flow matching: a Gaussian is learnt, to the floor of the loss and to its entropy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from harness_torch.model import TorchModel

from harness.architecture.matching import matched
from harness.architecture.noise import draw, noise_slots
from harness.errors import BackendError
from harness.interface import Batch, Control
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

MEAN, SPREAD = np.array([1.0, -0.5]), np.array([0.4, 1.6])
SIZE, STEPS = 256, 300


def _trial(objective: FlowMatching, blocks: int = 1) -> Trial:
    return Trial(
        DatasetRef("none", "none"),
        "torch",
        AdaptiveSolver("dopri5"),
        model=ModelSpec("concatsquash", (32, 32), "tanh", blocks, EndTime(0.5)),
        training=Training(batch=SIZE, trace="exact", optimizer=Optimizer(lr=1e-2)),
        precision="float64",
        objective=objective,
    )


def _rows(step: int, size: int) -> np.ndarray:
    return np.asarray(MEAN + SPREAD * Stream(1, "rows", step).normal((size, 2)))


def _batch(trial: Trial, step: int) -> Batch:
    noise = draw(noise_slots(trial, (2,), "train", SIZE), trial.seed, step, trial.dtype)
    return matched(trial, Batch(_rows(step, SIZE), noise))


@pytest.mark.parametrize(
    ("objective", "blocks", "floor"),
    [
        (FlowMatching(), 1, math.pi / 2 * SPREAD.sum()),
        (FlowMatching("trigonometric"), 2, math.pi**2 / 4 * SPREAD.sum()),
    ],
    ids=["linear", "trigonometric, two blocks"],
)
def test_a_gaussian_is_learnt(
    objective: FlowMatching,
    blocks: int,
    floor: float,
    open_model: Callable[[Trial, int], TorchModel],
) -> None:
    """The same computation each time: the bars are what it leaves, not a matter of chance."""
    trial = _trial(objective, blocks)
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
        losses.append(model.train_step(_batch(trial, step), control).fetch().loss)
    assert -0.01 < excess() < 0.1
    assert np.mean(losses[-50:]) == pytest.approx(floor, rel=0.2)


def test_a_batch_without_points_is_refused(open_model: Callable[[Trial, int], TorchModel]) -> None:
    trial = _trial(FlowMatching())
    batch = replace(_batch(trial, 0), noise={})
    with pytest.raises(BackendError, match="/0'"):
        open_model(trial, 2).train_step(batch, Control(trial.solver, "exact"))
