"""The section that sets the trials beside the published tables."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.metrics.definitions import DEFINITIONS
from harness_reports.page.elements import Block, Paragraph, Section
from harness_reports.published.beside import (
    Configuration,
    Line,
    configurations_of,
    dataset_of,
    lines,
    rows,
)
from harness_reports.published.library import published
from harness_reports.published.verdict import KINDS, difference_of_datasets
from harness_reports.sections.beside_tables import PublishedTables
from harness_reports.trials.entries import Entry, by_dataset

__all__ = ["Beside", "beside_section", "set_beside", "verdict_counts"]

_METHOD = (
    "Reproduced: the means differ by no more than the half-width of the 95 % interval of their "
    "difference, which rests on the spreads over training runs as far as they are known, plus "
    "half a unit of the last published digit. A spread over test points says nothing about "
    "other runs and is left out. Not comparable: the trials depart from the set-up behind the "
    "value as far as that is known; shown is the configuration that departs least, the section "
    "“Results” has all. Not run: no trial ended ok with this metric."
)


@dataclass(frozen=True)
class Beside:
    """What stands beside the published tables.

    Arguments:
        backends: In the order of the plan.
        held: By dataset, the lines of the values that trials are held against: the targets, and
            other models that they are.
        all_models: By dataset and metric, the lines of all published models, where there are
            more than the target and trials measured the metric.
        derived: Names of datasets made from published ones, and why they do not compare.
        uncovered: Names of datasets that no table covers.
    """

    backends: tuple[str, ...]
    held: Mapping[str, Sequence[Line]]
    all_models: Mapping[tuple[str, str], Sequence[Line]]
    derived: Mapping[str, str]
    uncovered: tuple[str, ...]


def set_beside(entries: Sequence[Entry]) -> Beside:
    """Sets the trials of a plan beside the published values of their datasets."""
    backends = tuple(dict.fromkeys(entry.labels["backend"] for entry in entries))
    held: dict[str, list[Line]] = {}
    all_models: dict[tuple[str, str], list[Line]] = {}
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
    for name, entries_of_it in covered.items():
        configurations = configurations_of(entries_of_it)
        for metric in _published_metrics(name):
            target, others = _lines(name, metric, configurations, backends)
            met = [line for line in others if line.meets]
            held.setdefault(name, []).extend([*target, *met])
            if others and any(line.configuration.has(line.metric) for line in others):
                all_models[name, metric] = [*target, *others]
    return Beside(backends, held, all_models, derived, tuple(uncovered))


def beside_section(found: Beside) -> Section:
    """The verdicts, the published values of all models, and the sources."""
    return Section("published", "Beside the published tables", tuple(_blocks(found)))


def verdict_counts(found: Beside) -> str:
    """How many of each verdict, `2 reproduced, 1 differs`; empty if there are none."""
    kinds = collections.Counter(
        standing.verdict.kind
        for members in found.held.values()
        for line in members
        for standing in line.standings.values()
    )
    return ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind])


def _published_metrics(dataset: str) -> tuple[str, ...]:
    """Metrics that records can have and a table prints, in the order of the definitions."""
    found = {value.metric for value in published(dataset)}
    return tuple(name for name in DEFINITIONS if name in found)


def _lines(
    dataset: str, metric: str, configurations: Sequence[Configuration], backends: Sequence[str]
) -> tuple[list[Line], list[Line]]:
    """The lines of the target, and those of the other models."""
    first, *others = rows(dataset, metric)
    target = list(lines(first, configurations, backends))
    # Beside another model stands what stands beside the target.
    nearest = [target[0].configuration]
    rest = [
        line
        for row in others
        for line in lines(row, configurations if row[0].setup else nearest, backends)
    ]
    return target, rest


def _blocks(found: Beside) -> Iterator[Block]:
    cited = [*found.held.values(), *found.all_models.values()]
    tables = PublishedTables(found.backends, [line for members in cited for line in members])
    if found.held:
        yield tables.verdicts(found.held)
        yield Paragraph(_METHOD, "muted")
    if found.derived:
        reasons = "; ".join(f"{name}, {reason}" for name, reason in found.derived.items())
        yield Paragraph(f"Not comparable with any published table: {reasons}.")
    if found.uncovered:
        *most, last = found.uncovered
        names = f"{', '.join(most)} or {last}" if most else last
        yield Paragraph(f"No published table covers {names}.", "muted")
    for (dataset, metric), members in found.all_models.items():
        yield tables.all_models(dataset, metric, members)
    if found.held:
        yield tables.sources()
