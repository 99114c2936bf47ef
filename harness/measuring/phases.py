"""The second stage of a trial, after its test: metrics of samples, reconstructions, draws.

Long by nature, so it is taken up after each set of samples and each draw: both are pure functions
of the seed and their number, and a trial that was killed ends with the numbers of one that was
not. Metrics are computed on the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import metadata

import numpy as np

from harness.datasets.base import Dataset, Rows
from harness.errors import MetricError
from harness.measuring.evaluator import Evaluator, SolveFailed
from harness.measuring.measured import Measured
from harness.metrics.definitions import DEFINITIONS, IMAGE_METRICS
from harness.metrics.floor import floor_rows, reference_rows
from harness.metrics.paddingflow import distances, floor_entries, planned_rows, protocol_cost
from harness.metrics.sets import Float
from harness.process.watch import Watch
from harness.trial import SampleMetrics, Trial

__all__ = ["Stage", "require_measurable"]

_LIBRARIES = {
    "sample_metrics": ("POT", "scipy", "scikit-learn"),
    "image_metrics": ("scikit-learn",),
}


def require_measurable(trial: Trial, dataset: Dataset, at_hand: int | None) -> None:
    """Raises before a training whose samples could not be measured.

    Arguments:
        trial: The trial.
        dataset: Its data.
        at_hand: Bytes of host memory it may count on; None if that is not known.

    Raises:
        MetricError: A library is missing, the data are no table, or memory does not suffice.
    """
    for name, packages in _LIBRARIES.items():
        for package in packages if getattr(trial.evaluation, name) else ():
            try:
                metadata.distribution(package)
            except metadata.PackageNotFoundError:
                raise MetricError(
                    f"'{name}' needs {package}, which is not installed. "
                    "Run: pip install 'cnf-harness[metrics]'"
                ) from None
    wanted, shape = trial.evaluation.sample_metrics, dataset.info.event_shape
    if wanted is None:
        return
    if len(shape) != 1:
        raise MetricError(
            f"'sample_metrics' compares rows of numbers; an example of '{dataset.info.name}' has "
            f"the shape {list(shape)}. Remove it from the evaluation"
        )
    needed = protocol_cost(wanted, shape[0], dataset.sizes()["test"]).bytes
    if at_hand is not None and needed > at_hand:
        raise MetricError(
            f"the sample metrics would take {needed / 1e9:,.1f} GB of host memory, and "
            f"{at_hand / 1e9:,.1f} GB are at hand. Lower exact_emd_rows, or give the trial more "
            "cores of the machine"
        )


class Stage:
    """Measures the arrays of a finished training beyond their test.

    Arguments:
        evaluator: The model and its data.
        measured: What has been found so far; what is found is added.
        watch: Time limit, requests to stop, sign of life.
        save: Makes `measured` durable.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        measured: Measured,
        watch: Watch,
        save: Callable[[], None],
    ) -> None:
        self._evaluator, self._measured = evaluator, measured
        self._watch, self._save = watch, save

    def run(self, test: list[Rows]) -> None:
        """Does what the evaluation of the trial asks for and has not been done.

        Arguments:
            test: The test rows in evaluation batches.

        Raises:
            TimedOut: The time is over; what was found is durable.
            Interrupted: A stop was requested; likewise.
        """
        evaluation = self._evaluator.trial.evaluation
        try:
            if evaluation.sample_metrics is not None:
                self._sample_metrics(evaluation.sample_metrics)
            if evaluation.image_metrics:
                self._image_metrics(test)
            if evaluation.importance_samples:
                self._importance(test, evaluation.importance_samples)
        except (MetricError, SolveFailed) as error:
            # The test is a result all the same.
            self._measured.notes["metrics"] = str(error)

    def _sample_metrics(self, wanted: SampleMetrics) -> None:
        measured, evaluator = self._measured, self._evaluator
        dataset = evaluator.dataset
        references = reference_rows(dataset.rows("test").x, wanted.rows)
        planned = planned_rows(wanted, references.shape[1], len(references))
        self._floors(references, planned)
        while measured.samplings.count < wanted.samplings:
            index = measured.samplings.count
            self._watch.report(stage=f"sampling {index + 1}/{wanted.samplings}")
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
        self._watch.report(stage="floors")
        try:
            rows = floor_rows(self._evaluator.dataset.rows("train").x, len(references))
        except MetricError as error:
            measured.notes["floor"] = f"no floors: {error}"
            return
        found = distances(rows, references, planned, self._watch.check)
        measured.metrics |= floor_entries(found, planned)
        self._save()

    def _image_metrics(self, test: list[Rows]) -> None:
        """Coverage and matching distance against the test images, their floors beside them."""
        measured, evaluator = self._measured, self._evaluator
        if "cov_l2_recon" in measured.metrics:
            return
        self._watch.report(stage="reconstructing")
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
        found = {}
        for use, images in sets.items():
            for name, metric in IMAGE_METRICS.items():
                self._watch.check()
                full = f"{name}_{use}"
                found[full] = {
                    "value": metric(images, references),
                    "unit": DEFINITIONS[full].unit,
                    "n": len(references),
                }
        measured.metrics |= found
        self._save()

    def _importance(self, test: list[Rows], draws: int) -> None:
        """NLL by importance weights: -(logsumexp over draws - ln K), a bound on the NLL."""
        measured, evaluator = self._measured, self._evaluator
        while measured.draws < draws:
            self._watch.report(stage=f"draw {measured.draws + 1}/{draws}")
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
