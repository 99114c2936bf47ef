"""Measuring a finished training: the test first, then pictures, then the later phases."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from harness.architecture.arrays import parameter_count
from harness.datasets.base import Rows
from harness.errors import DataError
from harness.measuring.accuracy import Reference
from harness.measuring.evaluator import Evaluator, Score, SolveFailed
from harness.measuring.measurements import Measurements, Metrics, digest_of
from harness.measuring.phases import Phases
from harness.measuring.pictures import write_pictures
from harness.measuring.tally import Tally
from harness.metrics.bits import bits_name, bits_per_dim
from harness.metrics.gaussian import remembered_gaussian_nll
from harness.process.memory import Footprint
from harness.process.watch import Watch
from harness.records.arrays import pack
from harness.records.files import replace

__all__ = ["Trained", "measure"]


class Trained(NamedTuple):
    """A training that has come to its end.

    Arguments:
        evaluator: Its data, and its model with the arrays that the trial keeps.
        watch: Time limit, requests to stop, progress.
        val_nll: Score of the arrays at validation, None if there was none.
        val_rows: Rows of that validation.
        steps: Optimiser steps taken.
        stale: Validations without gain after which patience ended it; None if it did not.
    """

    evaluator: Evaluator
    watch: Watch
    val_nll: float | None
    val_rows: int
    steps: int
    stale: int | None


def measure(
    trained: Trained, attempt: Path, earlier: Sequence[Path], reference: Reference
) -> Measurements:
    """Evaluates the arrays that the trial keeps and writes them, with samples, to the attempt.

    Arguments:
        trained: What is measured.
        attempt: Folder of the attempt.
        earlier: Folders of earlier attempts, whose measurements of the same arrays are taken over.
        reference: What errors of log p are taken against.

    Raises:
        SolveFailed: A solve of the test did not finish.
        TimedOut: The time is over.
        Interrupted: A stop was requested.
    """
    evaluator, watch = trained.evaluator, trained.watch
    trial = evaluator.trial
    arrays = pack(evaluator.model.arrays(), {"trial_id": trial.id})
    replace(attempt / "model.safetensors", arrays)
    measured = Measurements.newest(earlier, digest_of(arrays))

    def save() -> None:
        measured.write(attempt)
        watch.saved()

    footprint = Footprint(measured.phase_bytes)
    test = evaluator.chunks("test", trial.evaluation.rows)
    footprint.enter("evaluation")
    if not measured.metrics:
        watch.report(phase="testing")
        _test(measured, trained, test)
    footprint.enter("sampling")
    save()
    watch.report(phase="sampling")
    write_pictures(measured, evaluator, test, attempt)
    try:
        Phases(evaluator, measured, watch, save, reference, footprint).run(test)
    finally:
        footprint.enter(None)
    return measured


def _test(measured: Measurements, trained: Trained, test: Sequence[Rows]) -> None:
    evaluator, trial = trained.evaluator, trained.evaluator.trial
    model, dataset = evaluator.model, evaluator.dataset
    model.synchronize()
    start = time.perf_counter()
    score = evaluator.score("test", test)
    model.synchronize()
    measured.spent("test_s", time.perf_counter() - start)
    measured.nfe["test"] = {"forward": Tally.of(score.forward).summary()}
    train = evaluator.score("train", evaluator.chunks("train", score.n))
    quantity = evaluator.quantity
    variance = _probe_variance(evaluator, test[0])
    of_probes = {} if variance is None else {"probe_sem": math.sqrt(variance / score.n)}
    metrics: Metrics = {
        f"test_{quantity}": {**_nats(score.nll, score.n), "sem": score.sem, **of_probes},
        f"train_{quantity}": _nats(train.nll, train.n),
    }
    if trained.val_nll is not None:
        metrics[f"val_{quantity}"] = _nats(trained.val_nll, trained.val_rows)
    if variance is not None:
        metrics["probe_variance"] = {"value": variance, "unit": "nats²", "n": len(test[0].x)}
    _baseline(metrics, evaluator, score)
    if dataset.bits_per_dim:
        _add_bits(metrics, dataset.info.event_shape)
    parameters = parameter_count(trial.model, dataset.info)
    metrics["parameters"] = {"value": parameters, "unit": "count", "n": 1}
    metrics["steps"] = {"value": trained.steps, "unit": "count", "n": 1}
    measured.metrics |= metrics
    if trained.stale is not None:
        measured.notes["training"] = (
            f"stopped at step {trained.steps}: {trained.stale} validations without gain"
        )


def _probe_variance(evaluator: Evaluator, rows: Rows) -> float | None:
    """Of the test with an estimated trace, by one batch that stands for all."""
    with suppress(SolveFailed):  # the test itself did finish
        return evaluator.probe_variance("test", rows)
    return None


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
