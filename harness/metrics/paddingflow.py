"""PaddingFlow's protocol for samples of a table, and what it costs.

Meng et al., arXiv 2403.08216: R is a fixed random set of N = min(rows, test rows) test rows. S
times N samples are drawn in one solve with the tolerances of the test, and compared with R. A
metric is its mean over samplings, its minimum what that paper calls "MMD-" (`Samplings`).

Two things are ours. The exact earth mover's distances, whose cost grows faster than N^2, are of
the first `exact_emd_rows` rows of both sets. And every metric has a floor: training rows in the
place of samples, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from harness.metrics.costs import Cost, cost
from harness.metrics.definitions import DEFINITIONS, ROW_METRICS
from harness.trial import SampleMetrics

__all__ = ["EXACT", "distances", "floor_entries", "planned_rows", "protocol_cost"]

EXACT = ("emd", "emd_3d_reading")
"""Metrics that solve an assignment."""
_SPATIAL = ("emd_3d_reading", "emd_3d_reading_approximate")
"""Metrics that read rows as points in space: of no less than three numbers."""


def planned_rows(
    wanted: SampleMetrics, dimension: int, test_rows: int | None = None
) -> dict[str, int]:
    """Rows of each set by metric; a metric that is not computed is absent.

    Arguments:
        wanted: What the trial asks for.
        dimension: Numbers per row; the 3-D readings need three.
        test_rows: Test rows there are; None if that is not known.
    """
    rows = wanted.rows if test_rows is None else min(wanted.rows, test_rows)
    planned = {name: min(rows, wanted.exact_emd_rows) if name in EXACT else rows
               for name in ROW_METRICS if dimension >= 3 or name not in _SPATIAL}  # fmt: skip
    return {name: count for name, count in planned.items() if count}


def protocol_cost(wanted: SampleMetrics, dimension: int, test_rows: int | None = None) -> Cost:
    """Seconds on one core for all samplings and the floors, and the largest host memory.

    The solves that draw the samples are not in it: those take the trial's device.
    """
    planned = planned_rows(wanted, dimension, test_rows)
    rows = max(planned.values())
    costs = [cost(name, count, dimension, wanted.samplings + 1) for name, count in planned.items()]
    sets = 2 * 8 * rows * dimension
    return Cost(sum(each.seconds for each in costs), sets + max(each.bytes for each in costs))


def distances(
    samples: np.ndarray,
    references: np.ndarray,
    planned: Mapping[str, int],
    check: Callable[[], None],
) -> dict[str, float]:
    """Metrics of one set of samples [n, D] against the references [n, D].

    Arguments:
        samples: Samples.
        references: The reference set.
        planned: Rows by metric; the first of both sets.
        check: Called before each metric; raises to stop.

    Raises:
        MetricError: A sample is not finite, or a library is missing.
    """
    values = {}
    for name, rows in planned.items():
        check()
        values[name] = ROW_METRICS[name](samples[:rows], references[:rows])
    return values


def floor_entries(
    values: Mapping[str, float], planned: Mapping[str, int]
) -> dict[str, dict[str, float | int | str]]:
    """Entries of a record for the floors: `<metric>_floor`, of one draw of training rows."""
    return {
        f"{name}_floor": {
            "value": value,
            "unit": DEFINITIONS[f"{name}_floor"].unit,
            "n": 1,
            "rows": planned[name],
        }
        for name, value in values.items()
    }
