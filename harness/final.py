"""What a finished training is measured by: test score, baselines, pictures, samples."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from harness.accounting import Tally
from harness.architecture import parameter_count
from harness.checkpoint import pack
from harness.datasets.base import Rows
from harness.errors import DataError
from harness.evaluation import Evaluator, Score, SolveFailed
from harness.interface import Arrays
from harness.measured import Measured, Metrics, digest_of
from harness.measuring import Stage
from harness.metrics.bits import bits_name, bits_per_dim
from harness.metrics.gaussian import remembered_gaussian_nll
from harness.records import replace
from harness.trainer import Trainer

__all__ = ["measure"]


def measure(trainer: Trainer, attempt: Path, earlier: Sequence[Path]) -> Measured:
    """Evaluates the arrays that the trial keeps and writes them, with samples, to the attempt.

    Arguments:
        trainer: A training that has come to its end.
        attempt: Folder of the attempt.
        earlier: Folders of earlier attempts, whose measurements of the same arrays are taken over.

    Raises:
        SolveFailed: A solve of the test did not finish.
        TimedOut: The time is over.
        Interrupted: A stop was requested.
    """
    evaluator, trial, watch = trainer.evaluator, trainer.trial, trainer.watch
    if trial.training.keep == "best" and trainer.best:
        evaluator.model.load_arrays(trainer.best)
    arrays = pack(evaluator.model.arrays(), {"trial_id": trial.id})
    replace(attempt / "model.safetensors", arrays)
    measured = Measured.newest(earlier, digest_of(arrays))

    def save() -> None:
        measured.write(attempt)
        watch.saved()

    test = evaluator.chunks("test", trial.evaluation.rows)
    if not measured.metrics:
        watch.report(stage="testing")
        _test(measured, trainer, test)
    save()
    watch.report(stage="sampling")
    _write_pictures(measured, evaluator, test, attempt)
    Stage(evaluator, measured, watch, save).run(test)
    return measured


def _test(measured: Measured, trainer: Trainer, test: Sequence[Rows]) -> None:
    evaluator, trial, totals = trainer.evaluator, trainer.trial, trainer.totals
    model, dataset = evaluator.model, evaluator.dataset
    model.synchronize()
    start = time.perf_counter()
    score = evaluator.score("test", test)
    model.synchronize()
    measured.spent("test_s", time.perf_counter() - start)
    measured.nfe["test"] = {"forward": Tally.of(score.forward).summary()}
    train = evaluator.score("train", evaluator.chunks("train", score.n))
    quantity = evaluator.quantity
    metrics: Metrics = {
        f"test_{quantity}": {**_nats(score.nll, score.n), "sem": score.sem},
        f"train_{quantity}": _nats(train.nll, train.n),
    }
    keep_best = trial.training.keep == "best" and bool(trainer.best)
    val_nll = totals.best_val_nll if keep_best else totals.val_nll
    if val_nll is not None:
        metrics[f"val_{quantity}"] = _nats(val_nll, totals.val_rows)
    _baseline(metrics, evaluator, score)
    if dataset.bits_per_dim:
        _add_bits(metrics, dataset.info.event_shape)
    info = dataset.info
    parameters = parameter_count(
        trial.model, info.event_shape, categorical=info.likelihood == "categorical"
    )
    metrics["parameters"] = {"value": parameters, "unit": "count", "n": 1}
    metrics["steps"] = {"value": totals.step, "unit": "count", "n": 1}
    measured.metrics |= metrics
    if trainer.stopped_early:
        measured.notes["training"] = (
            f"stopped at step {totals.step}: {totals.stale} validations without gain"
        )


def _nats(value: float, n: int) -> dict[str, Any]:
    return {"value": value, "unit": "nats", "n": n}


def _baseline(metrics: Metrics, evaluator: Evaluator, score: Score) -> None:
    """The Gaussian fitted to the training rows, on the same test rows."""
    # Rows that admit no Gaussian say something of the data, not of the flow.
    with suppress(DataError):
        digest = evaluator.trial.dataset.digest
        nll, n = remembered_gaussian_nll(evaluator.dataset, digest, score.n)
        metrics["gaussian_nll"] = _nats(nll, n)


def _add_bits(metrics: Metrics, event_shape: tuple[int, ...]) -> None:
    for name in ("test_nll", "gaussian_nll", "test_neg_elbo"):
        if name in metrics:
            value = bits_per_dim(metrics[name]["value"], event_shape)
            n = metrics[name]["n"]
            metrics[bits_name(name)] = {"value": value, "unit": "bits/dim", "n": n}


def _write_pictures(
    measured: Measured, evaluator: Evaluator, test: Sequence[Rows], attempt: Path
) -> None:
    """Samples, and the density of a plane; they are for pictures, so no trial fails for them."""
    trial, dataset = evaluator.trial, evaluator.dataset
    arrays: Arrays = {}
    try:
        if trial.evaluation.samples:
            samples, forward = evaluator.sample(trial.evaluation.samples)
            measured.nfe["sample"] = {"forward": Tally.of(forward).summary()}
            arrays["samples"] = dataset.to_data(samples).astype(np.float32)
        if dataset.info.event_shape == (2,):
            arrays |= evaluator.grid(test)
    except SolveFailed as error:
        measured.notes["pictures"] = str(error)
    if arrays:
        shape = json.dumps(dataset.image_shape)
        replace(attempt / "samples.safetensors", pack(arrays, {"image_shape": shape}))
