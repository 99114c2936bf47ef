"""Which of our configurations is judged by which published value, and the verdicts.

A published value judges the configurations that meet its set-up. If none does, it is set against
the one that departs from it least, with the verdict that they do not compare, and how they differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.statistics import Summary
from harness_reports.published.configurations import Configuration
from harness_reports.published.library import published
from harness_reports.published.setups import in_words
from harness_reports.published.values import DATASETS, PublishedValue
from harness_reports.published.verdict import Verdict, look_alikes, verdict

__all__ = ["BackendVerdict", "Judgement", "dataset_of", "judgements", "published_rows"]

_OURS = "FFJORD"

PublishedRow = tuple[PublishedValue, ...]
"""Published values that say the same, the one to print first."""


@dataclass(frozen=True)
class BackendVerdict:
    """The result of one backend, and its verdict.

    Arguments:
        summary: Mean and spread over seeds, or None.
        planned: Number of seeds of the plan.
        absence: Why there is no value.
        verdict: How the result compares with the published value.
    """

    summary: Summary | None
    planned: int
    absence: str
    verdict: Verdict


@dataclass(frozen=True)
class Judgement:
    """A published value and the one configuration that it judges.

    Arguments:
        row: The published value, and those that say the same.
        configuration: The trials.
        metric: The metric of theirs that is compared with it.
        meets: True if they meet the set-up behind the value.
        verdicts: By backend.
    """

    row: PublishedRow
    configuration: Configuration
    metric: str
    meets: bool
    verdicts: Mapping[str, BackendVerdict]

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
    known = [dataset for dataset in DATASETS if f"{name}-".startswith(f"{dataset}-")]
    return max(known, key=len, default=None)


def published_rows(dataset: str, metric: str) -> list[PublishedRow]:
    """The published values of one quantity that may be printed, one row a model.

    Values of the same model by the same trainer that are equal are one row: tables restate each
    other. First comes the target, then other values of FFJORD, then models whose set-up is known,
    then the rest; each from best to worst.
    """
    equal: dict[tuple[str, str | None, float], list[PublishedValue]] = {}
    for value in published(dataset, metric):
        equal.setdefault((value.model, value.trained_by, value.value), []).append(value)
    rows = [
        tuple(sorted(same, key=lambda v: (not v.is_target, v.spread is None)))
        for same in equal.values()
    ]

    def order(row: PublishedRow) -> tuple[bool, bool, bool, float]:
        value = row[0]
        rank = -value.value if value.direction == "higher" else value.value
        ours = value.model.startswith(_OURS)
        return not value.is_target, not ours, value.setup is None, rank

    return sorted(rows, key=order)


def judgements(
    row: PublishedRow,
    configurations: Sequence[Configuration],
    backends: Sequence[str],
) -> Iterator[Judgement]:
    """Judges configurations by a published value.

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
    yielded: list[tuple[str, Mapping[str, BackendVerdict]]] = []
    for configuration, metric, reasons in measured or meeting[:1] or [nearest]:
        reason = in_words(reasons) or None
        verdicts = {
            backend: _backend_verdict(configuration, backend, metric, value, reason)
            for backend in backends
        }
        # A result that no setting changes, such as the Gaussian in closed form, is said once.
        said = (configuration.dataset, verdicts)
        if said not in yielded:
            yield Judgement(row, configuration, metric, not reasons, verdicts)
        yielded.append(said)


def _metric(configuration: Configuration, published_metric: str) -> str:
    """The metric to compare with a published one: the same, or one of a similar name."""
    names = (published_metric, *look_alikes(published_metric))
    return next((name for name in names if configuration.has(name)), published_metric)


def _backend_verdict(
    configuration: Configuration,
    backend: str,
    metric: str,
    value: PublishedValue,
    reason: str | None,
) -> BackendVerdict:
    summary = configuration.summary(backend, metric)
    own = verdict(summary, value, metric=metric, incomparable=reason)
    if summary is not None and metric != value.metric:
        own = replace(own, reason=f"{metric} is shown; {own.reason}")
    group = configuration.groups.get(backend)
    if group is None:
        return BackendVerdict(None, 0, "not planned", own)
    if summary is None and group.absence != own.kind:
        own = replace(own, reason=group.absence)
    return BackendVerdict(summary, len(group.entries), group.absence, own)
