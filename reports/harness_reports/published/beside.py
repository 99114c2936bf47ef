"""Which of our results stands beside which published value, and with what verdict.

A configuration is what differs in nothing but backend and seed. Beside a published value stand
the configurations that meet its set-up; if none does, the one that departs from it least, with
the verdict that they do not compare, and how they differ.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.statistics import Summary
from harness_reports.published.library import published
from harness_reports.published.setups import METRIC_N, Departure, departures, in_words, values_of
from harness_reports.published.values import DATASETS, PublishedValue
from harness_reports.published.verdict import Verdict, look_alikes, verdict
from harness_reports.trials.entries import Entry
from harness_reports.trials.groups import Group, groups_of, varying

__all__ = ["Configuration", "Line", "Standing", "configurations_of", "dataset_of", "lines", "rows"]

OTHER_MODEL = Departure("another model", "")
_OURS = "FFJORD"


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
        return group.summary(f"metrics.{metric}") if group else None

    def has(self, metric: str) -> bool:
        """True if any backend has a value."""
        return any(self.summary(backend, metric) for backend in self.groups)

    def departures(self, value: PublishedValue, metric: str) -> tuple[Departure, ...]:
        """How it departs from the set-up behind a published value."""
        if value.setup is None:
            return (OTHER_MODEL,)
        counts = {
            count
            for found in self.groups.values()
            for count in found.values(f"metrics.{metric}.n").values()
        }
        n = {METRIC_N: min(counts)} if counts else {}
        return departures(value.setup, {**self._values, **n})

    @functools.cached_property
    def _values(self) -> Mapping[str, Any]:
        group = next(iter(self.groups.values()))
        return values_of(group.entries[0].planned.trial)


@dataclass(frozen=True)
class Standing:
    """What one backend has to set beside a published value.

    Arguments:
        summary: Mean and spread over seeds, or None.
        planned: Number of seeds of the plan.
        absence: Why there is no value.
        verdict: How it stands.
    """

    summary: Summary | None
    planned: int
    absence: str
    verdict: Verdict


@dataclass(frozen=True)
class Line:
    """A published value and one configuration beside it.

    Arguments:
        row: Published values that say the same, the one to print first; see `rows`.
        configuration: The trials.
        metric: The metric of theirs that is set beside it.
        meets: True if they meet the set-up behind the value.
        standings: By backend.
    """

    row: tuple[PublishedValue, ...]
    configuration: Configuration
    metric: str
    meets: bool
    standings: Mapping[str, Standing]

    @property
    def value(self) -> PublishedValue:
        """The published value."""
        return self.row[0]


def dataset_of(name: str) -> str | None:
    """The dataset of the published tables that a name belongs to or is derived from.

    Example:
        >>> dataset_of("power-partial"), dataset_of("mnist-static"), dataset_of("digits")
        ('power', 'mnist-static', None)
    """
    found = [known for known in DATASETS if name == known or name.startswith(f"{known}-")]
    return max(found, key=len, default=None)


def rows(dataset: str, metric: str) -> list[tuple[PublishedValue, ...]]:
    """The published values of one quantity that may be printed, one row a model.

    Values of the same model by the same trainer that are equal are one row: tables restate each
    other. First comes the target, then other values of FFJORD, then models whose set-up is known,
    then the rest; each from best to worst.
    """
    merged: dict[tuple[str, str | None, float], list[PublishedValue]] = {}
    for value in published(dataset, metric):
        merged.setdefault((value.model, value.trained_by, value.value), []).append(value)
    found = [
        tuple(sorted(same, key=lambda v: (not v.is_target, v.spread is None)))
        for same in merged.values()
    ]

    def order(row: tuple[PublishedValue, ...]) -> tuple[bool, bool, bool, float]:
        value = row[0]
        rank = -value.value if value.direction == "higher" else value.value
        ours = value.model.startswith(_OURS)
        return not value.is_target, not ours, value.setup is None, rank

    return sorted(found, key=order)


def configurations_of(entries: Iterable[Entry]) -> tuple[Configuration, ...]:
    """The configurations of a dataset and its variants, in the order of its tables."""
    groups = groups_of(entries)
    names = ("solver", "regularizer", *varying(groups))
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.counterpart(), []).append(group)
    return tuple(
        Configuration(
            members[0].labels["dataset"],
            " · ".join(members[0].labels.get(name, "") for name in names),
            {group.labels["backend"]: group for group in members},
        )
        for members in found.values()
    )


def lines(
    row: tuple[PublishedValue, ...],
    configurations: Sequence[Configuration],
    backends: Sequence[str],
) -> Iterator[Line]:
    """Sets configurations beside a published value.

    Arguments:
        row: The value, and those that say the same.
        configurations: Of the dataset; at least one.
        backends: In the order of the plan.
    """
    value = row[0]
    candidates = []
    for configuration in configurations:
        metric = _metric(configuration, value.metric)
        candidates.append((configuration, metric, configuration.departures(value, metric)))
    meeting = [candidate for candidate in candidates if not candidate[2]]
    measured = [candidate for candidate in meeting if candidate[0].has(candidate[1])]
    nearest = min(candidates, key=lambda c: (not c[0].has(c[1]), len(c[2])))
    told: list[tuple[str, Mapping[str, Standing]]] = []
    for configuration, metric, reasons in measured or meeting[:1] or [nearest]:
        reason = in_words(reasons) or None
        standings = {
            backend: _standing(configuration, backend, metric, value, reason)
            for backend in backends
        }
        # What does not depend on the settings, as a Gaussian in closed form, is said once.
        said = (configuration.dataset, standings)
        if said not in told:
            yield Line(row, configuration, metric, not reasons, standings)
        told.append(said)


def _metric(configuration: Configuration, published_metric: str) -> str:
    """The metric to set beside a published one: the same, else one of a similar name."""
    names = (published_metric, *look_alikes(published_metric))
    return next((name for name in names if configuration.has(name)), published_metric)


def _standing(
    configuration: Configuration,
    backend: str,
    metric: str,
    value: PublishedValue,
    reason: str | None,
) -> Standing:
    summary = configuration.summary(backend, metric)
    found = verdict(summary, value, metric=metric, incomparable=reason)
    if summary is not None and metric != value.metric:
        found = replace(found, reason=f"{metric} is shown; {found.reason}")
    group = configuration.groups.get(backend)
    if group is None:
        return Standing(None, 0, "not planned", found)
    if summary is None and group.absence != found.kind:
        found = replace(found, reason=group.absence)
    return Standing(summary, len(group.entries), group.absence, found)
