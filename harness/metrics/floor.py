"""What a perfect model would score: training rows in the place of samples."""

from __future__ import annotations

import numpy as np

from harness.errors import MetricError
from harness.metrics.sets import Float
from harness.streams.stream import Stream

__all__ = ["PUBLISHED_ROWS", "floor_rows", "reference_rows"]

PUBLISHED_ROWS = 20_000
"""References in PaddingFlow's tables: this many test rows, or all if there are fewer."""


def reference_rows(test: np.ndarray, limit: int = PUBLISHED_ROWS) -> Float:
    """The reference set: min(limit, n) rows of a fixed random order of the test rows [n, ...].

    PaddingFlow's protocol has another order: that of torch with seed 0.
    """
    order = Stream(0, "metrics/reference").permutation(len(test))
    return np.asarray(test[order[:limit]], np.float64)


def floor_rows(train: np.ndarray, count: int) -> Float:
    """The first `count` rows of a fixed random order of the training rows.

    A metric of these against the references is the floor without which no model should be read.

    Arguments:
        train: Training rows [n, ...].
        count: How many are wanted: as many as there are references.

    Raises:
        MetricError: There are fewer training rows than that: sets of other sizes have another
            floor.
    """
    if len(train) < count:
        raise MetricError(
            f"a floor needs as many training rows as references: {len(train):,} and "
            f"{count:,}; use fewer references"
        )
    order = Stream(0, "metrics/floor").permutation(len(train))[:count]
    return np.asarray(train[order], np.float64)
