"""The section that judges the trials by the published tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.metrics.definitions import DEFINITIONS
from harness_reports.page.elements import Block, Paragraph
from harness_reports.published.configurations import Configuration, configurations_of
from harness_reports.published.judgement import (
    Judgement,
    dataset_of,
    judgements,
    published_rows,
)
from harness_reports.published.library import published
from harness_reports.published.verdict import difference_of_datasets
from harness_reports.sections.published_tables import PublishedTables, is_run
from harness_reports.trials.entries import Entry, backends_of, by_dataset

__all__ = ["PublishedVerdicts", "published_blocks", "published_verdicts", "strip_blocks"]

_METHOD = (
    "Reproduced: the means differ by no more than the half-width of the 95 % interval of their "
    "difference, which rests on the spreads over training runs as far as they are known, plus "
    "half a unit of the last published digit. A spread over test points says nothing about "
    "other runs and is left out. Not comparable: the trials depart from the set-up behind the "
    "value as far as that is known; shown is the configuration that departs least, the section "
    "“Results” has all. Not run: no trial ended ok with this metric."
)


@dataclass(frozen=True)
class PublishedVerdicts:
    """The trials of a plan, judged by the published tables.

    Arguments:
        backends: In the order of the plan.
        judged: By dataset, the values that judge trials: the targets, and other models whose
            set-up trials meet.
        all_models: By dataset and metric, all published models, where there are more than the
            target and trials measured the metric.
        derived: Names of datasets made from published ones, and why they do not compare.
        uncovered: Names of datasets that no table covers.
    """

    backends: tuple[str, ...]
    judged: Mapping[str, Sequence[Judgement]]
    all_models: Mapping[tuple[str, str], Sequence[Judgement]]
    derived: Mapping[str, str]
    uncovered: tuple[str, ...]


def published_verdicts(entries: Sequence[Entry]) -> PublishedVerdicts:
    """Judges the trials of a plan by the published values of their datasets."""
    backends = backends_of(entries)
    judged: dict[str, list[Judgement]] = {}
    all_models: dict[tuple[str, str], list[Judgement]] = {}
    derived: dict[str, str] = {}
    uncovered = []
    covered: dict[str, list[Entry]] = {}
    for name, members in by_dataset(entries).items():
        known = dataset_of(name)
        if known is None:
            uncovered.append(name)
        elif reason := difference_of_datasets(name, known):
            derived[name] = reason
        else:
            covered.setdefault(known, []).extend(members)
    for dataset, of_dataset in covered.items():
        configurations = configurations_of(of_dataset)
        for metric in _published_metrics(dataset):
            target, others = _judge(dataset, metric, configurations, backends)
            met = [other for other in others if other.meets]
            judged.setdefault(dataset, []).extend([*target, *met])
            if others and any(other.configuration.has(other.metric) for other in others):
                all_models[dataset, metric] = [*target, *others]
    return PublishedVerdicts(backends, judged, all_models, derived, tuple(uncovered))


def _published_metrics(dataset: str) -> tuple[str, ...]:
    """Metrics that records can have and a table prints, in the order of the definitions."""
    printed = {value.metric for value in published(dataset)}
    return tuple(name for name in DEFINITIONS if name in printed)


def _judge(
    dataset: str, metric: str, configurations: Sequence[Configuration], backends: Sequence[str]
) -> tuple[list[Judgement], list[Judgement]]:
    """The judgements by the target, and those by the values of other models."""
    first, *others = published_rows(dataset, metric)
    target = list(judgements(first, configurations, backends))
    # A model of an unknown set-up is shown with the configuration that the target is shown with.
    nearest = [target[0].configuration]
    rest = [
        judgement
        for row in others
        for judgement in judgements(row, configurations if row[0].setup else nearest, backends)
    ]
    return target, rest


def strip_blocks(verdicts: PublishedVerdicts) -> Iterator[Block]:
    """All verdicts at a glance; nothing if no published table covers a dataset."""
    if verdicts.judged:
        yield _tables(verdicts).strip(verdicts.judged)


def published_blocks(verdicts: PublishedVerdicts) -> Iterator[Block]:
    """The verdicts on what has run, the published values of all models, and the sources."""
    tables = _tables(verdicts)
    run = {name: members for name, members in verdicts.judged.items() if any(map(is_run, members))}
    if run:
        yield tables.verdicts(run)
        yield Paragraph(_METHOD, "muted")
    if waiting := [name for name in verdicts.judged if name not in run]:
        yield Paragraph(f"Published tables cover these, but they are not run: {_listed(waiting)}.")
    if verdicts.derived:
        reasons = "; ".join(f"{name}, {reason}" for name, reason in verdicts.derived.items())
        yield Paragraph(f"Not comparable with any published table: {reasons}.")
    if verdicts.uncovered:
        yield Paragraph(f"No published table covers {_listed(verdicts.uncovered, 'or')}.", "muted")
    for (dataset, metric), members in verdicts.all_models.items():
        yield tables.all_models(dataset, metric, members)
    if run:
        yield tables.sources()


def _tables(verdicts: PublishedVerdicts) -> PublishedTables:
    printed = [*verdicts.judged.values(), *verdicts.all_models.values()]
    return PublishedTables(verdicts.backends, [one for members in printed for one in members])


def _listed(names: Sequence[str], word: str = "and") -> str:
    *most, last = names
    return f"{', '.join(most)} {word} {last}" if most else last
