"""Our side of a comparison with a published value: trials that differ in backend and seed only."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.records.columns import metric_column
from harness.statistics import Summary
from harness_reports.published.setups import METRIC_N, Departure, departures, values_of
from harness_reports.published.values import PublishedValue
from harness_reports.trials.entries import Entry
from harness_reports.trials.groups import Group, groups_of, setting_names

__all__ = ["Configuration", "configurations_of"]

_OTHER_MODEL = Departure("another model", "")


@dataclass(frozen=True)
class Configuration:
    """Trials that differ in nothing but backend and seed.

    Arguments:
        dataset: Its dataset's name.
        name: Its settings in words, as far as the dataset's configurations differ in them.
        groups: Its trials by backend.
    """

    dataset: str
    name: str
    groups: Mapping[str, Group]

    def summary(self, backend: str, metric: str) -> Summary | None:
        """Mean and spread over seeds; None without a finished trial that has the metric."""
        group = self.groups.get(backend)
        return group.summary(metric_column(metric)) if group else None

    def has(self, metric: str) -> bool:
        """True if any backend has a value."""
        return any(self.summary(backend, metric) for backend in self.groups)

    def departures(self, value: PublishedValue, metric: str) -> tuple[Departure, ...]:
        """How it departs from the set-up behind a published value."""
        if value.setup is None:
            return (_OTHER_MODEL,)
        counts = {
            count
            for group in self.groups.values()
            for count in group.values(metric_column(metric, "n")).values()
        }
        n = {METRIC_N: min(counts)} if counts else {}
        return departures(value.setup, {**self._values, **n})

    @functools.cached_property
    def _values(self) -> Mapping[str, Any]:
        group = next(iter(self.groups.values()))
        return values_of(group.entries[0].planned.trial)


def configurations_of(entries: Iterable[Entry]) -> tuple[Configuration, ...]:
    """The configurations of a dataset and its variants, in the order of its tables."""
    groups = groups_of(entries)
    names = setting_names(groups)
    members: dict[str, list[Group]] = {}
    for group in groups:
        members.setdefault(group.counterpart(), []).append(group)
    return tuple(
        Configuration(
            alike[0].labels["dataset"],
            alike[0].title(names),
            {group.labels["backend"]: group for group in alike},
        )
        for alike in members.values()
    )
