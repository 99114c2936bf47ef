"""What a sample metric costs, to the order of magnitude, for the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Cost", "cost"]


@dataclass(frozen=True)
class Cost:
    """An estimate, good to a factor of about three.

    Arguments:
        seconds: On one core.
        bytes: Host memory at the peak, beside the two sets themselves.
    """

    seconds: float
    bytes: int


def cost(metric: str, rows: int, dimension: int, samplings: int = 1) -> Cost:
    """Cost of a metric of `rows` samples against as many references.

    Fitted to measurements on one core of a server of 2023 with unit Gaussians; rows in tight
    clusters may take a few times longer.

    Arguments:
        metric: Name, of `harness.metrics.definitions.ROW_METRICS` or `IMAGE_METRICS`.
        rows: Rows of each set.
        dimension: Numbers per row.
        samplings: How often it is computed; memory does not add up.

    Raises:
        KeyError: No such metric.
    """
    seconds = _SECONDS[metric](float(rows), dimension)
    return Cost(samplings * seconds, int(_BYTES[metric](rows, dimension)))


_BLOCK = 8 * (1 << 22)


def _neighbours(rows: float, dimension: int) -> float:
    """One direction of nearest neighbours."""
    if dimension <= 8:
        return 4e-7 * rows * math.log2(rows + 1) * 1.6**dimension / 10
    return rows * rows * (8e-9 + 1.6e-10 * dimension)


_SECONDS: Mapping[str, Callable[[float, int], float]] = {
    "cd": lambda n, d: 2 * _neighbours(n, d),
    "cov_l2": _neighbours,
    "mmd_l2": _neighbours,
    "emd": lambda n, d: 2.4 * (n / 3000) ** 2.3,
    "emd_3d_reading": lambda n, d: 3.0 * (n / 3000) ** 2.35,
    "emd_3d_reading_approximate": lambda n, d: 2.5e-7 * n * n,
    "mmd_kernel": lambda n, d: 3 * n * n * (1e-8 + 1e-10 * d),
}

_BYTES: Mapping[str, Callable[[int, int], float]] = {
    "cd": lambda n, d: _BLOCK + 8 * n * d,
    "cov_l2": lambda n, d: _BLOCK + 8 * n * d,
    "mmd_l2": lambda n, d: _BLOCK + 8 * n * d,
    "emd": lambda n, d: 8 * n * n,
    "emd_3d_reading": lambda n, d: 6000 * n,
    "emd_3d_reading_approximate": lambda n, d: 4 * _BLOCK,
    "mmd_kernel": lambda n, d: 2 * _BLOCK + 16 * n * d,
}
