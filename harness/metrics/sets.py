"""Two sets of rows to be compared: one array form, nearest neighbours, optional libraries."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import numpy.typing as npt

from harness.errors import MetricError

__all__ = ["Float", "as_sets", "library", "nearest", "row_blocks"]

Float = npt.NDArray[np.float64]

TREE_DIMENSIONS = 8
"""Up to here a k-d tree beats the comparison of all pairs, at 20,000 rows of unit Gaussians."""

_BLOCK_NUMBERS = 1 << 22


def as_sets(x: npt.ArrayLike, r: npt.ArrayLike, *, same_size: bool = False) -> tuple[Float, Float]:
    """Samples and references as finite float64 arrays [n, D] and [m, D], event axes flattened.

    Raises:
        ValueError: A set is empty, or widths or (with `same_size`) row counts differ.
        MetricError: A number is NaN or infinite.
    """
    samples, references = np.asarray(x, np.float64), np.asarray(r, np.float64)
    if samples.size == 0 or references.size == 0:
        raise ValueError(f"empty set: shapes {samples.shape} and {references.shape}")
    samples = np.ascontiguousarray(samples.reshape(len(samples), -1))
    references = np.ascontiguousarray(references.reshape(len(references), -1))
    if samples.shape[1] != references.shape[1]:
        raise ValueError(f"rows of {samples.shape[1]} and of {references.shape[1]} numbers")
    if same_size and len(samples) != len(references):
        raise ValueError(f"sets of {len(samples)} and of {len(references)} rows")
    for name, rows in (("samples", samples), ("references", references)):
        bad = int(np.count_nonzero(~np.isfinite(rows).all(axis=1)))
        if bad:
            raise MetricError(f"{bad:,} of {len(rows):,} {name} are not finite")
    return samples, references


def nearest(points: Float, among: Float) -> tuple[npt.NDArray[np.int64], Float]:
    """For each of `points` [n, D], its nearest row of `among` [m, D]: index [n], distance² [n].

    Exact. In few dimensions a k-d tree finds the neighbour; in many, all pairs are compared in
    blocks by |p|² + |a|² - 2 p·a, whose rounding (about 1e-16 of |p|²) can at most swap two
    neighbours that are equally near. The distance is then taken from the difference itself, so
    nothing cancels in it.
    """
    if points.shape[1] <= TREE_DIMENSIONS:
        tree = importlib.import_module("scipy.spatial").cKDTree(among)
        index = np.asarray(tree.query(points)[1], np.int64)
    else:
        pairwise = importlib.import_module("sklearn.metrics")
        centre = among.mean(axis=0)
        nearest = pairwise.pairwise_distances_argmin(points - centre, among - centre)
        index = np.asarray(nearest, np.int64)
    squared = np.empty(len(points))
    for rows in row_blocks(len(points), points.shape[1]):
        difference = points[rows] - among[index[rows]]
        squared[rows] = np.einsum("nd,nd->n", difference, difference)
    return index, squared


def row_blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of `rows` whose blocks of `width` numbers a row stay at about 32 MiB of float64."""
    size = max(1, _BLOCK_NUMBERS // max(1, width))
    for start in range(0, rows, size):
        yield slice(start, min(rows, start + size))


def library(module: str, metric: str) -> ModuleType:
    """Imports a library that only some metrics need.

    Raises:
        MetricError: It is not installed; the message has the command that mends it.
    """
    if module.partition(".")[0] == "ot":
        # POT imports every array framework it finds, and a worker must hold one at most.
        for framework in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):
            os.environ.setdefault(f"POT_BACKEND_DISABLE_{framework}", "1")
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MetricError(
            f"metric '{metric}' needs {module.partition('.')[0]}, which is not installed. "
            "Run: pip install 'cnf-harness[metrics]'"
        ) from None
