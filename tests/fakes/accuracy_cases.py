"""Errors of log p and of its gradient in a real backend, for the tests of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.backends import get_backend
from harness.datasets import registry as datasets
from harness.measuring.reference import evaluated_rows, gradient, log_prob, reference_of
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    EndTime,
    EngineName,
    Evaluation,
    FixedSolver,
    GradientName,
    ModelSpec,
    SolverSpec,
    Training,
    Trial,
)

__all__ = ["EULER", "RK4", "errors"]

_TRIAL = Trial(
    dataset=DatasetRef("moons", datasets.declare("moons").digest),
    backend="torch",
    solver=AdaptiveSolver("dopri5", 1e-5, 1e-5),
    model=ModelSpec("concatsquash", (8,), "tanh", end_time=EndTime(0.5)),
    gradient="direct",
    precision="float64",
)
EULER, RK4 = FixedSolver("euler", 4), FixedSolver("rk4_38", 4)


def errors(
    backend: str,
    mode: GradientName,
    evaluations: Sequence[tuple[SolverSpec, EngineName | None]],
    training: Training | None = None,
) -> list[tuple[float, float]]:
    """Largest error of log p, relative error of the gradient; for solvers and engines in turn."""
    trial = replace(_TRIAL, backend=backend, gradient=mode, training=training or Training())
    dataset, chosen = datasets.load("moons"), get_backend(backend)
    chosen.prepare(trial, 1)
    reference = chosen.open(reference_of(trial), dataset.info, "cpu")
    model: Any = chosen.open(trial, dataset.info, "cpu")
    found = []
    for solver, engine in evaluations:
        evaluation = Evaluation(rows=20, batch=20, solver=solver, engine=engine)
        scored = replace(trial, evaluation=evaluation)
        assert chosen.supports(scored) is None
        x = evaluated_rows(scored, dataset.rows("test", 20).x)
        before = model.arrays()
        exact = np.asarray(log_prob(reference, scored, x, reference=True))
        slope = gradient(reference, scored, x, reference=True)
        error = np.abs(np.asarray(log_prob(model, scored, x)) - exact).max()
        distance = np.linalg.norm(gradient(model, scored, x) - slope) / np.linalg.norm(slope)
        for name, array in model.arrays().items():
            np.testing.assert_array_equal(array, before[name])
        found.append((float(error), float(distance)))
    return found
