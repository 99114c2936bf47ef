"""Pairs of backends on the same trials."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from harness_reports.trials.entries import FINGERPRINT, Entry
from harness_reports.trials.groups import Group, groups_of

__all__ = ["Pair", "pairs_of"]


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
