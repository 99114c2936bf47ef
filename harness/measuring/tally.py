"""Sums of counts and quartiles of times, as records have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Tally", "quartiles"]


@dataclass
class Tally:
    """Sum, maximum and number of integer counts."""

    total: int = 0
    most: int = 0
    n: int = 0

    def add(self, count: int) -> None:
        """Takes in one count."""
        self.total += count
        self.most = max(self.most, count)
        self.n += 1

    @property
    def mean(self) -> float | None:
        """Mean count, None if there is none."""
        return self.total / self.n if self.n else None

    def summary(self) -> dict[str, Any] | None:
        """`{"mean", "max", "n"}`, None if nothing was counted."""
        return {"mean": self.mean, "max": self.most, "n": self.n} if self.n else None

    @staticmethod
    def of(counts: Iterable[int]) -> Tally:
        """Tally of some counts."""
        tally = Tally()
        for count in counts:
            tally.add(count)
        return tally


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of values, `{"median", "q25", "q75", "n"}`."""
    q25, median, q75 = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "q25": float(q25), "q75": float(q75), "n": len(values)}
