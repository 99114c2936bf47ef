"""Batches, controls and reference values for the kit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.conformance.cases import DIM
from harness.interface import Batch, Control, EvaluationReport, Model, Quantity
from harness.noise import draw, noise_slots
from harness.streams import Stream
from harness.trial import Trial

__all__ = ["evaluate", "inputs", "log_standard_normal", "objective", "train_once"]

Float = npt.NDArray[np.float64]
SIZE = 5


def inputs(
    trial: Trial,
    purpose: Literal["train", "evaluate"] = "train",
    size: int = SIZE,
    step: int = 0,
) -> tuple[Batch, Control]:
    """Returns a batch with its noise and the control of a training step or an evaluation."""
    x = Stream(trial.seed, "conformance/x", step).normal((size, DIM))
    noise = draw(noise_slots(trial, (DIM,), purpose, size), trial.seed, step, trial.precision)
    trace = trial.training.trace if purpose == "train" else trial.evaluation.trace
    control = Control(trial.solver, trace, trial.gradient, step=step, lr=1e-3)
    return Batch(x, noise), control


def evaluate(
    model: Model, batch: Batch, control: Control, *quantities: Quantity
) -> EvaluationReport:
    """Evaluates and asserts that the solve finished."""
    report = model.evaluate(batch, control, quantities)
    assert report.failure is None, report.failure
    return report


def objective(model: Model, trial: Trial, batch: Batch, control: Control) -> float:
    """The training loss, put together from per-example quantities."""
    names: Sequence[Quantity] = ("log_prob", "encode")
    if trial.regularizer:
        names = ("log_prob", "regularizers")
    values = evaluate(model, batch, control, *names).values
    loss = -float(np.mean(values["log_prob"]))
    for name, weight in trial.regularizer.items():
        loss += weight * float(np.mean(values[f"regularizers/{name}"]))
    return loss


def train_once(model: Model, batch: Batch, control: Control) -> Mapping[str, Float]:
    """Takes the first Adam step and returns the gradient, read off the first moment: m = 0.1 g."""
    before = model.arrays()
    report = model.train_step(batch, control).fetch()
    assert report.failure is None, report.failure
    gradient = {
        name.removeprefix("adam/m/"): np.asarray(value, dtype=np.float64) / 0.1
        for name, value in model.state().items()
        if name.startswith("adam/m/")
    }
    model.load_arrays(before)
    return gradient


def log_standard_normal(z: Float) -> Float:
    """Log-density of N(0, I) at each row."""
    return np.asarray(-0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=1))


def with_noise(batch: Batch, noise: Mapping[str, npt.NDArray[np.generic]]) -> Batch:
    """The same examples with other noise."""
    return replace(batch, noise=noise)
