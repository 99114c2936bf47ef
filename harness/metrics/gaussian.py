"""The closed-form Gaussian: a check of every data loader and the baseline of every flow."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.datasets.base import Dataset, Float, Rows
from harness.datasets.folders import cache_dir, publish
from harness.errors import DataError

__all__ = [
    *("RIDGES", "Baseline", "Gaussian", "fit", "gaussian_nll", "remembered_baseline"),
    "remembered_gaussian_nll",
]

VERSION = 1
"""Of the fit; another one is not taken from the cache."""
RIDGES = (0.0, 1e-12, 1e-10, 1e-8, 1e-6)
"""Tried in turn until the covariance is positive definite; in units of the mean variance."""


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution with full covariance.

    Arguments:
        mean: [D].
        factor: [D, D], lower Cholesky factor of the covariance.
        ridge: What had to be added to the diagonal, in units of the mean variance; 0 as a rule,
            more only if a feature is constant or depends on the others, or rows are too few.
    """

    mean: Float
    factor: Float
    ridge: float

    @property
    def dependent(self) -> list[int]:
        """Features that are constant or follow from those before them: the data lie in a plane.

        No density on them has a bound, and what is scored is the ridge, or the rounding.
        """
        variances = np.sum(self.factor**2, axis=1)
        left = np.diag(self.factor) ** 2
        # What the ridge added, times what a dependence multiplies it by.
        added = 100.0 * self.ridge * float(np.mean(variances))
        without = left <= np.maximum(added, 1e-12 * variances)
        return [column for column, dependent in enumerate(without.tolist()) if dependent]

    def log_prob(self, x: Float) -> Float:
        """Log-density of rows [n, ...] in nats, [n]."""
        centred = x.reshape(len(x), -1) - self.mean
        white = np.linalg.solve(self.factor, centred.T)
        log_det = np.sum(np.log(np.diag(self.factor)))
        constant = 0.5 * len(self.mean) * np.log(2.0 * np.pi)
        result: Float = -0.5 * np.sum(white * white, axis=0) - log_det - constant
        return result


class Baseline(NamedTuple):
    """What a Gaussian scores on a dataset.

    Arguments:
        nll: Mean negative log-likelihood of the test rows, nats.
        rows: Number of these rows.
        dependent: Features of the training rows that have no density.
    """

    nll: float
    rows: int
    dependent: tuple[int, ...]


def fit(chunks: Iterable[Rows]) -> Gaussian:
    """Maximum-likelihood Gaussian of the rows, in one pass.

    Sums are taken about the mean of the first chunk, so large offsets cost no digits.

    Raises:
        DataError: There are no rows, or none of `RIDGES` makes the covariance positive definite.
    """
    count, origin = 0, np.zeros(0)
    first, second = np.zeros(0), np.zeros(0)
    for chunk in chunks:
        x = chunk.x.reshape(len(chunk.x), -1)
        if count == 0:
            origin = x.mean(axis=0)
            first, second = np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1]))
        x = x - origin
        count += len(x)
        first = first + x.sum(axis=0)
        second = second + x.T @ x
    if count == 0:
        raise DataError("a Gaussian cannot be fitted to no rows")
    offset = first / count
    covariance: Float = second / count - np.outer(offset, offset)
    scale = float(np.trace(covariance)) / len(offset)
    for ridge in RIDGES:
        try:
            factor = np.linalg.cholesky(covariance + ridge * scale * np.eye(len(offset)))
        except np.linalg.LinAlgError:
            continue
        return Gaussian(origin + offset, factor.astype(np.float64), ridge)
    raise DataError(f"the covariance of {count} training rows is not positive definite")


def remembered_gaussian_nll(
    dataset: Dataset, digest: str, rows_limit: int | None = None
) -> tuple[float, int]:
    """`gaussian_nll`, remembered in the cache: seconds for images, and one for all their trials.

    A cache that cannot be written costs time only.

    Arguments:
        dataset: The dataset.
        digest: Its declared digest.
        rows_limit: See `gaussian_nll`.

    Raises:
        DataError: The rows are discrete.
    """
    baseline = remembered_baseline(dataset, digest, rows_limit)
    return baseline.nll, baseline.rows


def remembered_baseline(dataset: Dataset, digest: str, rows_limit: int | None = None) -> Baseline:
    """The same with the features that have no density; see `remembered_gaussian_nll`."""
    key = f"{dataset.info.name}-{digest}-{rows_limit or 'all'}-v{VERSION}"
    note = cache_dir() / "gaussian" / f"{key}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_bytes())
        dependent = tuple(int(column) for column in known["dependent"])
        return Baseline(float(known["nll"]), int(known["rows"]), dependent)
    baseline = _baseline(dataset, rows_limit)
    text = json.dumps(baseline._asdict()).encode()
    with suppress(OSError):
        publish(note, lambda file: file.write(text))
    return baseline


def gaussian_nll(dataset: Dataset, rows_limit: int | None = None) -> tuple[float, int]:
    """Test score of a Gaussian with full covariance, fitted to all training rows.

    An endless training stream is represented by its fixed sample (`Dataset.rows("train")`).

    Arguments:
        dataset: The dataset.
        rows_limit: At most so many test rows are scored; None means all.

    Returns:
        Mean negative log-likelihood in nats per example, `log_volume` included as in the flow's
        `test_nll`, and the number of test rows.

    Raises:
        DataError: The rows are discrete: a density on them has no upper bound.
    """
    baseline = _baseline(dataset, rows_limit)
    return baseline.nll, baseline.rows


def _baseline(dataset: Dataset, rows_limit: int | None) -> Baseline:
    if dataset.info.likelihood != "density":
        raise DataError(
            f"dataset '{dataset.info.name}' has discrete pixels, on which no density has a bound"
        )
    gaussian = fit(dataset.chunks("train"))
    total, count = 0.0, 0
    for chunk in dataset.chunks("test", limit=rows_limit):
        total -= float(np.sum(gaussian.log_prob(chunk.x) + chunk.log_volume))
        count += len(chunk.x)
    return Baseline(total / count, count, tuple(gaussian.dependent))
