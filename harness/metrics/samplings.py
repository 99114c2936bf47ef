"""Metrics over repeated samplings: means, and the minima that papers print."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from harness.metrics.definitions import DEFINITIONS
from harness.metrics.sets import Float
from harness.statistics import summarize

__all__ = ["MINIMA", "Samplings"]

MINIMA: Mapping[str, str] = {
    "cd": "min_cd",
    "emd": "min_emd",
    "emd_3d_reading": "min_emd_3d_reading",
    "emd_3d_reading_approximate": "min_emd_3d_reading_approximate",
}
"""Name of the minimum over samplings, by metric."""

_PREFIX = "samplings/"


class Samplings:
    """The values of metrics over samplings 0, 1, ..., in order; can be stopped and continued.

    With one fixed set of references and S sets of samples of the same size, the value of a metric
    is its mean over samplings; its minimum is what PaddingFlow's tables call "MMD-CD" and
    "MMD-EMD" (arXiv 2403.08216): the best of S = 100 samplings, neither maximum mean discrepancy
    nor the minimum matching distance between many sets. A minimum falls as S grows, so minima
    compare at equal S only.

    Example:
        >>> samplings = Samplings()
        >>> samplings.add({"cd": 1.5})
        >>> samplings.add({"cd": 1.25})
        >>> samplings.metrics()["min_cd"]["value"]
        1.25
    """

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._count = 0

    @property
    def count(self) -> int:
        """Number of samplings so far; the index of the next one."""
        return self._count

    def add(self, values: Mapping[str, float]) -> None:
        """Adds the next sampling.

        Arguments:
            values: By metric; every sampling has the same metrics.

        Raises:
            ValueError: The metrics differ from those before, or a value is not finite.
        """
        if self._count and values.keys() != self._values.keys():
            raise ValueError(f"metrics {sorted(values)} after {sorted(self._values)}")
        if not all(map(math.isfinite, values.values())):
            raise ValueError(f"values must be finite, found {dict(values)}")
        for name, value in values.items():
            self._values.setdefault(name, []).append(float(value))
        self._count += 1

    def values(self, metric: str) -> Float:
        """Values of one metric in the order of samplings, [count]."""
        return np.array(self._values.get(metric, ()), np.float64)

    def metrics(self) -> dict[str, dict[str, float | int | str]]:
        """Entries of a record: the mean of each metric, and its minimum where one is printed.

        Returns:
            By name: `value`, `unit`, and `n`, here the number of samplings; means have `sd`, the
            standard deviation over samplings, if there are two or more.
        """
        metrics: dict[str, dict[str, float | int | str]] = {}
        for name, values in sorted(self._values.items()):
            summary = summarize(values)
            if summary is None:
                continue
            unit = DEFINITIONS[name].unit
            metrics[name] = {"value": summary.mean, "unit": unit, "n": summary.n}
            if summary.sd is not None:
                metrics[name]["sd"] = summary.sd
            if name in MINIMA:
                metrics[MINIMA[name]] = {"value": summary.low, "unit": unit, "n": summary.n}
        return metrics

    def state(self) -> dict[str, Float]:
        """All of it as plain arrays, for a checkpoint."""
        return {_PREFIX + name: self.values(name) for name in self._values}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray]) -> Samplings:
        """Continues from `state()`; other arrays of the checkpoint are ignored.

        Raises:
            ValueError: The arrays do not belong together.
        """
        samplings = cls()
        own = {n.removeprefix(_PREFIX): a for n, a in arrays.items() if n.startswith(_PREFIX)}
        lengths = {len(array) for array in own.values()}
        if len(lengths) > 1:
            raise ValueError(f"samplings of different lengths: {sorted(lengths)}")
        for row in range(lengths.pop() if lengths else 0):
            samplings.add({name: float(array[row]) for name, array in own.items()})
        return samplings
