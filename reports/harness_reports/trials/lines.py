"""The lines of the results: one a setting and backend, backends that are the same in one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.statistics import Summary, summarize
from harness_reports.trials.comparisons import Comparison
from harness_reports.trials.entries import Entry, by_dataset
from harness_reports.trials.groups import Group, groups_of
from harness_reports.trials.quantities import Quantity, quantity_of

__all__ = ["Line", "best_lines", "lines_of"]


@dataclass(frozen=True)
class Line:
    """Groups that one line stands for: one backend, or several whose results are the same.

    Arguments:
        dataset: The dataset's name.
        quantity: What the dataset is judged by.
        groups: They differ in the backend only.
    """

    dataset: str
    quantity: Quantity
    groups: tuple[Group, ...]

    @property
    def backends(self) -> str:
        """`torch`, or `torch = jax`."""
        return " = ".join(group.labels["backend"] for group in self.groups)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All their trials."""
        return tuple(entry for group in self.groups for entry in group.entries)

    @property
    def waiting(self) -> bool:
        """True if none of its trials has run or is skipped."""
        return all(entry.waiting for entry in self.entries)

    def values(self, column: str) -> dict[int, float]:
        """By seed, the mean over the backends that have a number."""
        by_seed: dict[int, list[float]] = {}
        for group in self.groups:
            for seed, value in group.values(column).items():
                by_seed.setdefault(seed, []).append(value)
        return {seed: statistics.fmean(values) for seed, values in by_seed.items()}

    def summary(self, column: str) -> Summary | None:
        """Summary of `values`."""
        return summarize(self.values(column).values())


def lines_of(
    entries: Iterable[Entry], comparisons: Sequence[Comparison]
) -> dict[str, tuple[Line, ...]]:
    """The lines of every dataset, in the order of its tables."""
    same = {
        frozenset(map(_key, one.pair.groups))
        for one in comparisons
        if one.outcome == "same" and _equal_seeds(one)
    }
    lines: dict[str, tuple[Line, ...]] = {}
    for dataset, members in by_dataset(entries).items():
        quantity = quantity_of(members)
        alike: dict[str, list[Group]] = {}
        for group in groups_of(members):
            alike.setdefault(group.counterpart(), []).append(group)
        lines[dataset] = tuple(
            Line(dataset, quantity, tuple(part))
            for groups in alike.values()
            for part in _merged(groups, same)
        )
    return lines


def best_lines(
    lines: Sequence[Line], comparisons: Iterable[Comparison], digits: int
) -> tuple[Line, ...]:
    """The lines with the lowest mean as printed; none if there is nothing to choose.

    Only lines with all the seeds that any line has take part, so that equal seeds are compared. A
    backend that is the same as a lowest one, on the seeds of both, is lowest too.

    Arguments:
        lines: Of one dataset.
        comparisons: Of all.
        digits: Decimals that are printed.
    """
    measured = [(line, line.values(line.quantity.column)) for line in lines]
    seeds = {seed for _, values in measured for seed in values}
    means = [
        (line, round(statistics.fmean(values.values()), digits))
        for line, values in measured
        if values and set(values) == seeds
    ]
    lowest = min((mean for _, mean in means), default=math.inf)
    best = [line for line, mean in means if mean == lowest]
    same = [set(map(_key, one.pair.groups)) for one in comparisons if one.outcome == "same"]
    keys = {_key(group) for line in best for group in line.groups}
    keys |= {key for pair in same if pair & keys for key in pair}
    marked = [line for line, _ in measured if keys & set(map(_key, line.groups))]
    rivals = [line for line, values in measured if values]
    return () if len(marked) == len(rivals) else tuple(marked)


def _key(group: Group) -> tuple[str, str]:
    return group.counterpart(), group.labels["backend"]


def _equal_seeds(one: Comparison) -> bool:
    first, second = (set(group.values(one.quantity.column)) for group in one.pair.groups)
    return first == second


def _merged(groups: Sequence[Group], same: set[frozenset[tuple[str, str]]]) -> list[list[Group]]:
    """Each group joins the first part all of whose groups are the same as it."""
    parts: list[list[Group]] = []
    for group in groups:
        for part in parts:
            if all(frozenset((_key(group), _key(other))) in same for other in part):
                part.append(group)
                break
        else:
            parts.append([group])
    return parts
