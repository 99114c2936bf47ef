"""Batches and controls for the kit, and comparisons with what it expects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from harness.architecture.matching import matched
from harness.architecture.noise import draw, noise_slots
from harness.conformance.cases import SIZE, data_of
from harness.conformance.oracle.field import Float
from harness.conformance.oracle.flow import Oracle, Run
from harness.interface import (
    Array,
    Arrays,
    Batch,
    Control,
    DataInfo,
    EvaluationReport,
    Model,
    Quantity,
    StepReport,
)
from harness.streams.stream import Stream
from harness.trial import Trial

__all__ = [
    "agree",
    "check_gradient",
    "check_training_step",
    "evaluate",
    "examples",
    "gradient_of",
    "inputs",
    "take_step",
]


def examples(data: DataInfo, stream: Stream, size: int) -> Array:
    """Normal rows, or the pixels of images: 0 and 1, or k / 255; [size, *event_shape], float64."""
    shape = (size, *data.event_shape)
    if data.likelihood == "density":
        return stream.normal(shape)
    levels = 1 if data.likelihood == "bernoulli" else 255
    return np.round(levels * stream.uniform(shape)) / levels


def inputs(
    trial: Trial,
    purpose: Literal["train", "evaluate"] = "train",
    size: int = SIZE,
    step: int = 0,
) -> tuple[Batch, Control]:
    """Returns a batch with its noise and the control of a training step or an evaluation.

    A training batch of flow matching has what was drawn beside what was made of it: the one for
    the oracle, the other for the model.
    """
    data = data_of(trial)
    x = examples(data, Stream(trial.seed, "conformance/x", step), size)
    noise = draw(
        noise_slots(trial, data.event_shape, purpose, size), trial.seed, step, trial.dtype
    )
    said = trial.training if purpose == "train" else trial.evaluation
    control = Control(
        trial.solver,
        said.trace,
        trial.gradient,
        step=step,
        lr=1e-3,
        kl_weight=0.7,
        probes=said.probes,
        draws=said.draws,
    )
    batch = Batch(x, noise)
    if purpose == "train":
        batch = replace(batch, noise={**noise, **matched(trial, batch).noise})
    return batch, control


def evaluate(
    model: Model, batch: Batch, control: Control, *quantities: Quantity
) -> EvaluationReport:
    """Evaluates and asserts that the solve finished."""
    report = model.evaluate(batch, control, quantities)
    assert report.failure is None, report.failure
    return report


def take_step(model: Model, batch: Batch, control: Control) -> StepReport:
    """Takes a training step and asserts that the solve finished."""
    report = model.train_step(batch, control).fetch()
    assert report.failure is None, report.failure
    return report


def gradient_of(state: Mapping[str, Array]) -> dict[str, Float]:
    """The gradient of the first training step, off the first moment after it: m = 0.1 g."""
    return {
        name.removeprefix("adam/m/"): np.asarray(value, dtype=np.float64) / 0.1
        for name, value in state.items()
        if name.startswith("adam/m/")
    }


def agree(
    actual: Array | float, expected: Array | float, tolerance: float, what: str = ""
) -> None:
    """Asserts equality up to a tolerance, absolute below 1 and relative to the largest above."""
    expected = np.asarray(expected)
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    actual = np.asarray(actual).reshape(expected.shape)
    error = float(np.max(np.abs(actual - expected), initial=0.0)) / scale
    assert error <= tolerance, f"{what} differs by {error:.1e}, more than {tolerance:.0e}"


def check_gradient(
    gradient: Mapping[str, Float],
    oracle: Oracle,
    arrays: Arrays,
    inputs: tuple[Batch, Control],
    at: Run,
    tolerance: float,
    seeds: Sequence[int] = (0,),
    h: float = 1e-5,
) -> None:
    """Compares a gradient along random directions with differences of the oracle's losses.

    The derivative along a random unit vector is the gradient's norm times a number that can be
    small; errors are measured against the norm.
    """
    norm = math.sqrt(sum(float(np.sum(value**2)) for value in gradient.values()))
    for seed in seeds:
        direction = {
            name: Stream(seed, f"direction/{name}").normal(value.shape)
            for name, value in gradient.items()
        }
        length = math.sqrt(sum(float(np.sum(value**2)) for value in direction.values()))
        direction = {name: value / length for name, value in direction.items()}
        slope = sum(float(np.sum(gradient[name] * direction[name])) for name in gradient)
        expected = oracle.derivative(arrays, *inputs, direction, at, h)
        error = abs(slope - expected) / norm
        assert error <= tolerance, f"gradient differs by {error:.1e}, more than {tolerance:.0e}"


def check_training_step(
    model: Model, trial: Trial, tolerance: float, step: int = 0, gradient: float | None = 1e-7
) -> Run:
    """Takes a training step and compares loss, regularizers, buffers and gradient with the oracle.

    Arguments:
        model: Its arrays as they are before the step.
        trial: Its trial.
        tolerance: Of values.
        step: Number of the step, which decides the batch.
        gradient: Tolerance of the gradient, which is known after the first step alone; None
            compares none.
    """
    oracle = Oracle(trial, data_of(trial))
    arrays = model.arrays()
    batch, control = inputs(trial, step=step)
    report = take_step(model, batch, control)
    run = oracle.run(arrays, batch, control, train=True)
    for name, value in run.regularizers.items():
        agree(report.regularizers[name], float(np.mean(value)), tolerance, name)
    agree(report.loss, run.loss, tolerance, "loss")
    after = model.arrays()
    for name, value in run.buffers.items():
        agree(after[name], value, tolerance, name)
    if gradient is not None:
        computed = gradient_of(model.state())
        check_gradient(computed, oracle, arrays, (batch, control), run, gradient, seeds=(0, 1))
    return run
