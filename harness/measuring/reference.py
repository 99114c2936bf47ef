"""Log p of a few test rows and its gradient, and the reference in float64 that both are held
against.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from harness.architecture.noise import draw, noise_slots
from harness.interface import Array, Arrays, Batch, Control, Model, Quantity
from harness.measuring.evaluator import NoiseKey, SolveFailed, evaluation_call
from harness.specs.solver import AdaptiveSolver
from harness.trial import TraceName, Trial

__all__ = [
    "REFERENCE",
    "compared_rows",
    "doubled",
    "evaluated_rows",
    "gradient",
    "log_prob",
    "quantity_of",
    "reference_of",
]

_ROWS = 200
_VALUES = 20_000
"""Rows that are compared; with the exact trace, whose cost grows with the dimension, so many
numbers in all."""
_LEAST_ROWS = 8

_SOLVER = AdaptiveSolver("dopri5", rtol=1e-10, atol=1e-10, max_steps=100_000)
REFERENCE = f"float64, {_SOLVER.name} at tolerance {_SOLVER.rtol:g}"


def reference_of(trial: Trial) -> Trial:
    """The trial that computes the reference of another."""
    return replace(
        trial,
        precision="float64",
        engine="native",
        gradient="adjoint",
        evaluation=replace(trial.evaluation, solver=_SOLVER, engine=None),
        # A backend compiles nothing for it that only a training repays.
        training=replace(trial.training, iterations=1),
    )


def evaluated_rows(trial: Trial, test: Array) -> Array:
    """The test rows of the evaluation that is timed: the first batch of the test."""
    return test[: trial.evaluation.batch]


def quantity_of(trial: Trial) -> Quantity:
    """What an evaluation computes: log p, or of an autoencoder the terms of its bound."""
    return "log_prob" if trial.model.posterior is None else "elbo_terms"


def doubled(arrays: Arrays) -> Arrays:
    """The arrays of a model for its reference: floating ones in float64."""
    return {
        name: array.astype(np.float64) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }


def log_prob(
    model: Model,
    trial: Trial,
    x: Array,
    log_volume: Array | None = None,
    *,
    reference: bool = False,
) -> list[float]:
    """Log p of the first rows of an evaluation, of an autoencoder the bound, nats.

    All rows of a solve share its steps, so that the solver of the trial sees the whole batch; the
    reference needs only the rows that are compared, with the same noise.

    Arguments:
        model: The model; for the reference that of `reference_of`.
        trial: The trial that is timed.
        x: Rows of its evaluation, [n, *event_shape].
        log_volume: Theirs, [n], for a solver that carries it; the reference needs none.
        reference: Solve tightly in float64.

    Raises:
        SolveFailed: The solve did not finish, or gave no finite number.
    """
    batch, control = evaluation_call(trial, x, NoiseKey("test", 0), log_volume=log_volume)
    rows = compared_rows(control.trace, x)
    if reference:
        batch = _in_double(batch, rows)
        control = replace(control, solver=_SOLVER, engine=None)
    report = model.evaluate(batch, control, (quantity_of(trial),))
    if report.failure:
        raise SolveFailed(f"a solve for log p did not finish: {report.failure}")
    terms = [np.asarray(part[:rows], np.float64) for part in report.values.values()]
    # The terms of the bound are of the negative ELBO.
    values = np.sum(terms, axis=0) * (1.0 if len(terms) == 1 else -1.0)
    if not np.isfinite(values).all():
        raise SolveFailed("log p is not finite")
    return [float(value) for value in values]


def gradient(model: Model, trial: Trial, x: Array, *, reference: bool = False) -> Array:
    """Gradient of the training loss of the rows that are compared, by the solver of the
    evaluation and in the trial's gradient mode, up to a factor: what the optimiser is given.

    It is read from the first moment of a step from none at learning rate 0. The arrays and the
    state of the model are afterwards what they were.

    Arguments:
        model: The model; for the reference that of `reference_of`.
        trial: The trial.
        x: Rows of its evaluation, [n, *event_shape].
        reference: Solve tightly in float64.

    Returns:
        All parameters end to end, sorted by name, float64.

    Raises:
        SolveFailed: A solve did not finish, or the gradient is not finite.
    """
    training, rows = trial.training, compared_rows(trial.training.trace, x)
    slots = noise_slots(trial, x.shape[1:], "train", rows)
    noise = draw(slots, trial.seed, 0, trial.dtype, "accuracy/")
    batch = Batch(x[:rows].astype(trial.dtype), noise)
    solver, engine, mode = trial.evaluation_solver, trial.evaluation_engine, trial.gradient
    if reference:
        batch, solver, engine, mode = _in_double(batch, rows), _SOLVER, None, "adjoint"
    arrays, state = model.arrays(), model.state()
    model.load_state({name: np.zeros_like(value) for name, value in state.items()})
    control = Control(
        solver,
        training.trace,
        mode,
        probes=training.probes,
        draws=training.draws,
        engine=engine,
    )
    try:
        report = model.train_step(batch, control).fetch()
        moments = model.state()
    finally:
        model.load_arrays(arrays)
        model.load_state(state)
    if report.failure:
        raise SolveFailed(f"a solve for the gradient did not finish: {report.failure}")
    names = sorted(name for name in moments if name.startswith("adam/m/"))
    parts = [np.asarray(moments[name], np.float64).ravel() for name in names]
    whole = np.concatenate([np.empty(0), *parts])
    if not np.isfinite(whole).all():
        raise SolveFailed("the gradient is not finite")
    return whole


def compared_rows(trace: TraceName, x: Array) -> int:
    """How many of the rows of an evaluation are compared: with the exact trace fewer the wider
    they are.
    """
    most = _ROWS
    if trace == "exact":
        most = max(_LEAST_ROWS, min(_ROWS, _VALUES // math.prod(x.shape[1:])))
    return min(len(x), most)


def _in_double(batch: Batch, rows: int) -> Batch:
    """The first rows of a batch in float64; noise that is not by row (end times) is all kept."""
    noise = {
        name: cut if cut.dtype == np.int8 else cut.astype(np.float64)
        for name, values in batch.noise.items()
        for cut in (values[:rows] if len(values.shape) and len(values) == batch.size else values,)
    }
    return Batch(batch.x[:rows].astype(np.float64), noise)
