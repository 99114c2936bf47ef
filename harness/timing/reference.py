"""Log p of a few test rows, and the reference in float64 that it is held against."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from harness.interface import Array, Batch, Model, Quantity
from harness.measuring.evaluator import NoiseKey, SolveFailed, evaluation_call
from harness.specs.solver import AdaptiveSolver
from harness.trial import TraceName, Trial

__all__ = ["REFERENCE", "evaluated_rows", "log_prob", "quantity_of", "reference_of"]

_ROWS = 200
_VALUES = 20_000
"""Rows that are compared; with the exact trace, whose cost grows with the dimension, so many
numbers in all."""
_LEAST_ROWS = 8

_SOLVER = AdaptiveSolver("dopri5", rtol=1e-10, atol=1e-10, max_steps=100_000)
REFERENCE = f"float64, {_SOLVER.name} at tolerance {_SOLVER.rtol:g}"


def reference_of(trial: Trial) -> Trial:
    """The trial that computes the reference of another."""
    evaluation = replace(trial.evaluation, solver=_SOLVER)
    return replace(
        trial, precision="float64", engine="native", gradient="adjoint", evaluation=evaluation
    )


def evaluated_rows(trial: Trial, test: Array) -> Array:
    """The test rows of the evaluation that is timed: the first batch of the test."""
    return test[: trial.evaluation.batch]


def quantity_of(trial: Trial) -> Quantity:
    """What an evaluation computes: log p, or of an autoencoder the terms of its bound."""
    return "log_prob" if trial.model.posterior is None else "elbo_terms"


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
    rows = _compared(control.trace, x)
    if reference:
        batch, control = _in_double(batch, rows), replace(control, solver=_SOLVER)
    report = model.evaluate(batch, control, (quantity_of(trial),))
    if report.failure:
        raise SolveFailed(f"a solve for log p did not finish: {report.failure}")
    terms = [np.asarray(part[:rows], np.float64) for part in report.values.values()]
    # The terms of the bound are of the negative ELBO.
    values = np.sum(terms, axis=0) * (1.0 if len(terms) == 1 else -1.0)
    if not np.isfinite(values).all():
        raise SolveFailed("log p is not finite")
    return [float(value) for value in values]


def _compared(trace: TraceName, x: Array) -> int:
    most = _ROWS
    if trace == "exact":
        most = max(_LEAST_ROWS, min(_ROWS, _VALUES // math.prod(x.shape[1:])))
    return min(len(x), most)


def _in_double(batch: Batch, rows: int) -> Batch:
    """The first rows of a batch of an evaluation, whose noise is all by row, in float64."""
    noise = {
        name: values[:rows] if values.dtype == np.int8 else values[:rows].astype(np.float64)
        for name, values in batch.noise.items()
    }
    return Batch(batch.x[:rows].astype(np.float64), noise)
