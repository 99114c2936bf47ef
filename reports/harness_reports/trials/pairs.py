"""Pairs of backends on the same trials, and the words for how they compare."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from harness.statistics import Interval
from harness_reports.trials.entries import FINGERPRINT, Entry
from harness_reports.trials.groups import Group, groups_of

__all__ = ["LEAST_PAIRS", "Pair", "pairs_of", "quality_verdict", "speed_verdict"]

LEAST_PAIRS = 3
"""With fewer pairs there is no verdict: the interval of two is too wide to say anything."""


@dataclass(frozen=True)
class Pair:
    """Two groups that differ in the backend only.

    Arguments:
        first: Group of the backend the plan names first.
        second: Its counterpart.
    """

    first: Group
    second: Group

    def matched(
        self, column: str, seeds: Iterable[int] | None = None
    ) -> list[tuple[float, float]]:
        """Values of both for the seeds that both have, in order of the seeds."""
        a, b = (group.values(column) for group in self.groups)
        common = sorted(a.keys() & b.keys())
        return [(a[s], b[s]) for s in common if seeds is None or s in seeds]

    def fair_seeds(self) -> set[int]:
        """Seeds whose two timings were exclusive and on one machine."""
        a, b = (
            {
                entry.seed: entry.text(FINGERPRINT)
                for entry in group.entries
                if entry.ok and entry.exclusive
            }
            for group in self.groups
        )
        return {s for s in a.keys() & b.keys() if a[s] is not None and a[s] == b[s]}

    @property
    def groups(self) -> tuple[Group, Group]:
        """Both groups."""
        return self.first, self.second

    @property
    def failed(self) -> bool:
        """True if a trial of either backend ended in failure."""
        return self.first.failed or self.second.failed

    @property
    def names(self) -> tuple[str, str]:
        """Names of the two backends."""
        return self.first.labels["backend"], self.second.labels["backend"]


def pairs_of(entries: Iterable[Entry]) -> list[Pair]:
    """All pairs of groups of one dataset that differ in the backend only."""
    alike: dict[str, list[Group]] = {}
    for group in groups_of(entries):
        alike.setdefault(group.counterpart(), []).append(group)
    return [
        Pair(first, second)
        for groups in alike.values()
        for first, second in itertools.combinations(groups, 2)
    ]


def quality_verdict(difference: Interval, names: tuple[str, str]) -> str:
    """Words for a paired difference, first minus second, of a quantity where lower is better."""
    if difference.n < LEAST_PAIRS:
        return "too few seeds"
    if not difference.excludes(0.0):
        return "no difference detected"
    return f"{names[0] if difference.estimate < 0 else names[1]} better"


def speed_verdict(ratio: Interval, names: tuple[str, str]) -> str:
    """Words for a ratio of step times, first over second."""
    if ratio.n < LEAST_PAIRS:
        return "too few seeds"
    if not ratio.excludes(1.0):
        return "no difference detected"
    return f"{names[1] if ratio.estimate > 1 else names[0]} faster"
