"""The phases of measuring that follow the test: errors, metrics of samples, of images, of draws.

They are long, so a trial that was killed goes on after the last set of samples or the last draw:
both are pure functions of the seed and their number, and the trial ends with the numbers of one
that was not killed. Metrics are computed on the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from harness.datasets.base import Rows
from harness.errors import MetricError
from harness.measuring.accuracy import Reference, measure_accuracy
from harness.measuring.evaluator import Evaluator, SolveFailed
from harness.measuring.measurements import Measurements
from harness.metrics.definitions import DEFINITIONS, IMAGE_METRICS
from harness.metrics.floor import floor_rows, reference_rows
from harness.metrics.paddingflow import distances, floor_entries, planned_rows
from harness.metrics.sets import Float
from harness.process.memory import Footprint
from harness.process.watch import Watch
from harness.trial import SampleMetrics

__all__ = ["Phases"]


class Phases:
    """Measures the arrays of a finished training beyond their test.

    Arguments:
        evaluator: The model and its data.
        measured: The measurements so far, to which these are added.
        watch: Time limit, requests to stop, progress.
        save: Makes `measured` durable.
        reference: What errors of log p are taken against.
        footprint: Takes the memory of a reference, whose model is a second one, apart.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        measured: Measurements,
        watch: Watch,
        save: Callable[[], None],
        reference: Reference,
        footprint: Footprint,
    ) -> None:
        self._evaluator, self._measured = evaluator, measured
        self._watch, self._save, self._reference = watch, save, reference
        self._footprint = footprint

    def run(self, test: list[Rows]) -> None:
        """Does what the evaluation of the trial asks for and has not been done.

        Arguments:
            test: The test rows in evaluation batches.

        Raises:
            TimedOut: The time is over; what was measured is durable.
            Interrupted: A stop was requested; what was measured is durable.
        """
        evaluation = self._evaluator.trial.evaluation
        try:
            if evaluation.accuracy is not None:
                self._accuracy(test)
            if evaluation.sample_metrics is not None:
                self._sample_metrics(evaluation.sample_metrics)
            if evaluation.image_metrics:
                self._image_metrics(test)
            if evaluation.importance_samples:
                self._importance(test, evaluation.importance_samples)
        except (MetricError, SolveFailed) as error:
            # The test is a result all the same.
            self._measured.notes["metrics"] = str(error)

    def _accuracy(self, test: list[Rows]) -> None:
        if "log_prob_error_max" not in self._measured.metrics:
            self._watch.report(phase="reference")
            self._footprint.enter("reference")
            measure_accuracy(self._evaluator, test, self._reference, self._measured)
            self._footprint.enter("sampling")
            self._save()

    def _sample_metrics(self, wanted: SampleMetrics) -> None:
        measured, evaluator = self._measured, self._evaluator
        dataset = evaluator.dataset
        references = reference_rows(dataset.rows("test").x, wanted.rows)
        planned = planned_rows(wanted, references.shape[1], len(references))
        self._floors(references, planned)
        while measured.samplings.count < wanted.samplings:
            index = measured.samplings.count
            self._watch.report(phase=f"sampling {index + 1}/{wanted.samplings}")
            evaluator.model.synchronize()
            start = time.perf_counter()
            try:
                samples, forward = evaluator.sampling(index, len(references))
                drawn = time.perf_counter()
                values = distances(samples, references, planned, self._watch.check)
            except (MetricError, SolveFailed) as error:
                raise MetricError(
                    f"no sample metrics: sampling {index + 1} of {wanted.samplings}: {error}"
                ) from error
            measured.samplings.add(values)
            measured.forward.append(forward)
            measured.spent("sampling_s", drawn - start)
            measured.spent("sample_metrics_s", time.perf_counter() - drawn)
            self._save()
        for name, entry in measured.samplings.metrics().items():
            measured.metrics[name] = {**entry, "rows": planned[name.removeprefix("min_")]}
        measured.nfe["samplings"] = measured.sampled()

    def _floors(self, references: Float, planned: dict[str, int]) -> None:
        measured = self._measured
        if "cd_floor" in measured.metrics or "floor" in measured.notes:
            return
        self._watch.report(phase="floors")
        try:
            rows = floor_rows(self._evaluator.dataset.rows("train").x, len(references))
        except MetricError as error:
            measured.notes["floor"] = f"no floors: {error}"
            return
        floors = distances(rows, references, planned, self._watch.check)
        measured.metrics |= floor_entries(floors, planned)
        self._save()

    def _image_metrics(self, test: list[Rows]) -> None:
        """Coverage and matching distance against the test images, their floors beside them."""
        measured, evaluator = self._measured, self._evaluator
        if "cov_l2_recon" in measured.metrics:
            return
        self._watch.report(phase="reconstructing")
        references = np.concatenate([rows.x for rows in test])
        sets = {
            "recon": evaluator.reconstructions(test),
            "prior": evaluator.prior(len(references)),
        }
        try:
            train = evaluator.dataset.rows("train").x
            sets["floor"] = floor_rows(train, len(references))
        except MetricError as error:
            measured.notes["floor"] = f"no floors: {error}"
        entries = {}
        for use, images in sets.items():
            for name, metric in IMAGE_METRICS.items():
                self._watch.check()
                full = f"{name}_{use}"
                entries[full] = {
                    "value": metric(images, references),
                    "unit": DEFINITIONS[full].unit,
                    "n": len(references),
                }
        measured.metrics |= entries
        self._save()

    def _importance(self, test: list[Rows], draws: int) -> None:
        """NLL by importance weights: -(logsumexp over draws - ln K), a bound on the NLL."""
        measured, evaluator = self._measured, self._evaluator
        while measured.draws < draws:
            self._watch.report(phase=f"draw {measured.draws + 1}/{draws}")
            weights = evaluator.log_weights(test, measured.draws)
            first = measured.draws == 0
            measured.log_weights = (
                weights if first else np.logaddexp(measured.log_weights, weights)
            )
            measured.draws += 1
            self._save()
        nll = np.log(draws) - measured.log_weights
        n = len(nll)
        if not np.isfinite(nll).all():
            raise MetricError("no importance-weighted NLL: it is not finite")
        measured.metrics["test_iw_nll"] = {
            "value": float(np.mean(nll)),
            "unit": "nats",
            "n": n,
            "sem": float(np.std(nll, ddof=1)) / n**0.5 if n > 1 else None,
            "draws": draws,
        }
