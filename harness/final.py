"""What a finished training is measured by: test score, baselines, samples, pictures."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from harness.accounting import Tally
from harness.architecture import parameter_count
from harness.checkpoint import pack
from harness.errors import DataError
from harness.evaluation import Evaluator, Score, SolveFailed
from harness.interface import Arrays
from harness.metrics.bits import bits_name, bits_per_dim
from harness.metrics.gaussian import gaussian_nll
from harness.records import replace
from harness.trainer import Trainer

__all__ = ["Final", "measure"]

_Metrics = dict[str, dict[str, Any]]


class Final:
    """Measurements of a finished trial, in the form of result.json."""

    def __init__(self) -> None:
        self.metrics: _Metrics = {}
        self.nfe: dict[str, Any] = {"test": None, "sample": None}
        self.test_s: float | None = None
        self.message: str | None = None


def measure(trainer: Trainer, attempt: Path) -> Final:
    """Evaluates the arrays that the trial keeps and writes them, with samples, to the attempt.

    Raises:
        SolveFailed: A solve of the test did not finish.
        TimedOut: The time is over.
        Interrupted: A stop was requested.
    """
    evaluator, trial, totals = trainer.evaluator, trainer.trial, trainer.totals
    model, dataset = evaluator.model, evaluator.dataset
    keep_best = trial.training.keep == "best" and bool(trainer.best)
    if keep_best:
        model.load_arrays(trainer.best)
    replace(attempt / "model.safetensors", pack(model.arrays(), {"trial_id": trial.id}))
    trainer.watch.report(stage="testing")
    final = Final()
    test = evaluator.chunks("test", trial.evaluation.rows)
    model.synchronize()
    start = time.perf_counter()
    score = evaluator.score("test", test)
    model.synchronize()
    final.test_s = time.perf_counter() - start
    final.nfe["test"] = {"forward": Tally.of(score.forward).summary()}
    train = evaluator.score("train", evaluator.chunks("train", score.n))
    quantity = evaluator.quantity
    final.metrics |= {
        f"test_{quantity}": {**_nats(score.nll, score.n), "sem": score.sem},
        f"train_{quantity}": _nats(train.nll, train.n),
    }
    val_nll = totals.best_val_nll if keep_best else totals.val_nll
    if val_nll is not None:
        final.metrics[f"val_{quantity}"] = _nats(val_nll, totals.val_rows)
    _baseline(final, evaluator, score)
    if dataset.bits_per_dim:
        _add_bits(final.metrics, dataset.info.event_shape)
    info = dataset.info
    parameters = parameter_count(
        trial.model, info.event_shape, categorical=info.likelihood == "categorical"
    )
    final.metrics["parameters"] = {"value": parameters, "unit": "count", "n": 1}
    final.metrics["steps"] = {"value": totals.step, "unit": "count", "n": 1}
    if trainer.stopped_early:
        final.message = f"stopped at step {totals.step}: {totals.stale} validations without gain"
    trainer.watch.report(stage="sampling")
    _write_samples(final, evaluator, attempt)
    return final


def _nats(value: float, n: int) -> dict[str, Any]:
    return {"value": value, "unit": "nats", "n": n}


def _baseline(final: Final, evaluator: Evaluator, score: Score) -> None:
    """The Gaussian fitted to the training rows, on the same test rows."""
    # Rows that admit no Gaussian say something of the data, not of the flow.
    with suppress(DataError):
        nll, n = gaussian_nll(evaluator.dataset, score.n)
        final.metrics["gaussian_nll"] = _nats(nll, n)


def _add_bits(metrics: _Metrics, event_shape: tuple[int, ...]) -> None:
    for name in ("test_nll", "gaussian_nll", "test_neg_elbo"):
        if name in metrics:
            value = bits_per_dim(metrics[name]["value"], event_shape)
            n = metrics[name]["n"]
            metrics[bits_name(name)] = {"value": value, "unit": "bits/dim", "n": n}


def _write_samples(final: Final, evaluator: Evaluator, attempt: Path) -> None:
    """Samples, and the density of a plane; they are for pictures, so no trial fails for them."""
    trial, dataset = evaluator.trial, evaluator.dataset
    arrays: Arrays = {}
    try:
        if trial.evaluation.samples:
            samples, forward = evaluator.sample(trial.evaluation.samples)
            final.nfe["sample"] = {"forward": Tally.of(forward).summary()}
            arrays["samples"] = dataset.to_data(samples).astype(np.float32)
        if dataset.info.event_shape == (2,):
            arrays |= evaluator.grid(evaluator.chunks("test", trial.evaluation.rows))
    except SolveFailed as error:
        final.message = "; ".join(filter(None, (final.message, str(error))))
    if arrays:
        shape = json.dumps(dataset.image_shape)
        replace(attempt / "samples.safetensors", pack(arrays, {"image_shape": shape}))
