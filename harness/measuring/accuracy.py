"""How far a solver is from the truth on the same weights, and what a solve takes.

The truth is log p, and on request the gradient of the training loss, in float64 under dopri5 at
1e-10 (`harness.measuring.reference`). It is computed once for a trained model and kept with it, so
that scoring by another solver, tolerance or engine finds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.base import Rows
from harness.interface import Model
from harness.measuring.evaluator import Evaluator, NoiseKey, SolveFailed, evaluation_call
from harness.measuring.measurements import Measurements, Metrics
from harness.measuring.reference import (
    compared_rows,
    doubled,
    evaluated_rows,
    gradient,
    log_prob,
    quantity_of,
)
from harness.metrics.sets import Float
from harness.records.arrays import DAMAGE, seal, unseal
from harness.records.files import replace
from harness.trial import Trial, canonical_json, identity_of

__all__ = ["Reference", "measure_accuracy"]


@dataclass(frozen=True)
class Reference:
    """Where the reference of a trained model lies, and who computes it.

    Arguments:
        folder: The folder of the trained model.
        opened: Opens the model in float64 while the context lasts.
    """

    folder: Path
    opened: Callable[[], AbstractContextManager[Model]]

    def values(self, evaluator: Evaluator, x: Float) -> tuple[Float, Float | None]:
        """Log p of the rows that are compared [n], and the gradient if the trial asks for it.

        Raises:
            SolveFailed: A solve of the reference did not finish.
        """
        trial = evaluator.trial
        wanted = trial.evaluation.accuracy
        with_gradient = wanted is not None and wanted.gradient
        path = self.folder / f"reference-{_key(trial, x)}.safetensors"
        kept = _read(path)
        if "log_prob" in kept and ("gradient" in kept or not with_gradient):
            return kept["log_prob"], kept.get("gradient")
        arrays = evaluator.model.arrays()
        with self.opened() as model:
            model.load_arrays(doubled(arrays))
            kept["log_prob"] = np.asarray(log_prob(model, trial, x, reference=True))
            if with_gradient:
                kept["gradient"] = gradient(model, trial, x, reference=True)
        replace(path, seal(kept, {}))
        return kept["log_prob"], kept.get("gradient")


def measure_accuracy(
    evaluator: Evaluator,
    test: list[Rows],
    reference: Reference,
    measured: Measurements,
) -> None:
    """Adds the errors and the time of a solve to the measurements.

    Raises:
        SolveFailed: A solve did not finish.
    """
    trial, model = evaluator.trial, evaluator.model
    wanted = trial.evaluation.accuracy
    if wanted is None:
        return
    rows = Rows(*(evaluated_rows(trial, part) for part in (test[0].x, test[0].log_volume)))
    exact, slope = reference.values(evaluator, rows.x)
    error = np.abs(np.asarray(log_prob(model, trial, rows.x, rows.log_volume)) - exact)
    entries: Metrics = {
        f"log_prob_error_{name}": {"value": float(value), "unit": "nats", "n": len(error)}
        for name, value in (
            ("median", np.median(error)),
            ("99", np.quantile(error, 0.99)),
            ("max", error.max()),
        )
    }
    if wanted.gradient and slope is not None:
        distance = np.linalg.norm(gradient(model, trial, rows.x) - slope) / np.linalg.norm(slope)
        n = compared_rows(trial.training.trace, rows.x)
        entries["gradient_error"] = {"value": float(distance), "unit": "1", "n": n}
    measured.nfe["solve"] = _time(evaluator, rows, wanted.repeats, measured)
    measured.metrics |= entries


def _time(evaluator: Evaluator, rows: Rows, repeats: int, measured: Measurements) -> int:
    """Times solves of one batch, by the clock and by the processor; returns the evaluations."""
    trial, model = evaluator.trial, evaluator.model
    key = NoiseKey("test", 0)
    batch, control = evaluation_call(trial, rows.x, key, log_volume=rows.log_volume)

    def solve() -> Any:  # noqa: ANN401
        report = model.evaluate(batch, control, (quantity_of(trial),))
        model.synchronize()
        return report

    solve()
    for _ in range(repeats):
        evaluator.check()
        start, used = time.perf_counter(), time.process_time()
        report = solve()
        measured.spent("solve_s", time.perf_counter() - start)
        measured.spent("solve_cpu_s", time.process_time() - used)
    if report.failure:
        raise SolveFailed(f"a solve that is timed did not finish: {report.failure}")
    return sum(report.nfe.forward)


def _key(trial: Trial, x: Float) -> str:
    """Names a reference: what it depends on beside the trained model."""
    evaluation = trial.evaluation
    said = {
        "rows": [compared_rows(trace, x) for trace in (evaluation.trace, trial.training.trace)],
        "trace": evaluation.trace,
        "probes": evaluation.probes,
        "draws": evaluation.draws,
    }
    return identity_of(canonical_json(said))


def _read(path: Path) -> dict[str, Float]:
    """What was computed before; nothing where there is none, or it is damaged."""
    try:
        return dict(unseal(path)[0])
    except DAMAGE:
        return {}
