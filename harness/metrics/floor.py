"""What a perfect model would score: training rows in the place of samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.errors import MetricError
from harness.metrics.sets import Float
from harness.streams.stream import Stream

__all__ = ["PUBLISHED_ROWS", "floor_rows", "real_floor", "reference_rows"]

PUBLISHED_ROWS = 20_000
"""References in PaddingFlow's tables: this many test rows, or all if there are fewer."""


def reference_rows(test: np.ndarray, limit: int = PUBLISHED_ROWS) -> Float:
    """The reference set: min(limit, n) rows of a fixed random order of the test rows [n, ...].

    As in PaddingFlow's protocol, but for its own random order, which is torch's with seed 0.
    """
    order = Stream(0, "metrics/reference").permutation(len(test))
    return np.asarray(test[order[:limit]], np.float64)


def floor_rows(train: np.ndarray, count: int, draw: int = 0) -> Float:
    """Training rows that take the place of samples.

    Arguments:
        train: Training rows [n, ...].
        count: How many are wanted: as many as there are references.
        draw: Each draw is another random subset.

    Raises:
        MetricError: There are fewer training rows than that: sets of other sizes have another
            floor.
    """
    if len(train) < count:
        raise MetricError(
            f"a floor needs as many training rows as references: {len(train):,} and "
            f"{count:,}; use fewer references"
        )
    order = Stream(draw, "metrics/floor").permutation(len(train))[:count]
    return np.asarray(train[order], np.float64)


def real_floor(
    metric: Callable[[Float, Float], float],
    train: np.ndarray,
    references: np.ndarray,
    draw: int = 0,
) -> float:
    """A metric of real rows against real rows: the floor that no model should be read without.

    Arguments:
        metric: Any metric of samples and references, e.g. `harness.metrics.chamfer.cd`.
        train: Training rows [n, ...].
        references: The reference set [m, ...], from other rows.
        draw: See `floor_rows`.

    Raises:
        MetricError: There are fewer training rows than references.
    """
    rows = floor_rows(train, len(references), draw)
    return metric(rows, np.asarray(references, np.float64))
