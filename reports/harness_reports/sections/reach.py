"""Time to quality: seconds of training until validation reaches a stated likelihood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from harness.statistics import paired_ratio, summarize
from harness_reports.page.elements import (
    Block,
    Cell,
    Column,
    Paragraph,
    Row,
    Section,
    Table,
    Tone,
    absent,
)
from harness_reports.page.numbers import fixed, level_digits, seconds, spread
from harness_reports.published.judgement import dataset_of
from harness_reports.published.library import published
from harness_reports.published.verdict import difference_of_datasets
from harness_reports.sections.curve_data import nats_to_unit
from harness_reports.sections.reach_chart import reach_chart
from harness_reports.trials.entries import Entry, backends_of, by_dataset
from harness_reports.trials.groups import Group, groups_of, setting_names
from harness_reports.trials.pairs import Pair
from harness_reports.trials.quantities import Quantity, likelihood_of, quantity_of
from harness_reports.trials.reach import (
    Contrast,
    Curve,
    Level,
    common_level,
    contrasts,
    curves_of,
)
from harness_reports.trials.speed import ratio_text

__all__ = ["reach"]

_NOTE = (
    "Seconds of training steps (compiling and validating left out) until the first validation at "
    "or below a level, mean ± standard deviation over the seeds that reach it. Levels: the "
    "full-covariance Gaussian on the test rows, the published value that a reproduction must "
    "match, and the lowest value that every finished trial of the dataset reaches. Validations "
    "are apart by `validate_every` steps, and so are these times."
)
_PAIRED = (
    "To the lowest value that all reach: ratio of the seconds of two trainings that differ in one "
    "thing, first over second, paired by seed; geometric mean with the 95 % t interval of its "
    "logarithm. Only pairs that both had the machine to themselves on one kind of hardware carry "
    "a verdict."
)

_LEAST_PAIRS = 3
"""The interval of two pairs is too wide to say anything."""


def reach(entries: Sequence[Entry], history: pd.DataFrame) -> Section:
    """For each dataset the times to its levels, what one change does to them, and the curves."""
    backends = backends_of(entries)
    blocks: list[Block] = []
    for dataset, members in by_dataset(entries).items():
        quantity = quantity_of(members)
        curves = curves_of(members, history, likelihood_of(members), nats_to_unit(members))
        if curves:
            blocks += _of_dataset(dataset, members, curves, quantity, backends)
    if not blocks:
        text = "No finished trial has a validation curve."
        return Section("reach", "Time to quality", (Paragraph(text, "muted"),))
    notes = (Paragraph(_NOTE, "muted"), Paragraph(_PAIRED, "muted"))
    return Section("reach", "Time to quality", (*blocks, *notes))


def _of_dataset(
    dataset: str,
    members: Sequence[Entry],
    curves: Mapping[str, Curve],
    quantity: Quantity,
    backends: Sequence[str],
) -> Iterator[Block]:
    groups = groups_of(members)
    levels = _levels(dataset, members, curves, quantity)
    yield _table(dataset, groups, levels, curves, quantity)
    lowest = common_level(curves.values())
    paired = contrasts(groups)
    if paired and lowest is not None:
        yield _contrast_table(dataset, paired, lowest, curves)
    yield reach_chart(dataset, groups, curves, levels, quantity, backends)


def _levels(
    dataset: str, members: Sequence[Entry], curves: Mapping[str, Curve], quantity: Quantity
) -> list[Level]:
    levels = []
    column = quantity.baseline_column
    gaussians = [entry.number(column) for entry in members if entry.ok and column]
    gaussian = next((value for value in gaussians if value is not None), None)
    if gaussian is not None:
        levels.append(Level("Gaussian", gaussian))
    levels += _published(dataset, quantity)
    lowest = common_level(curves.values())
    if lowest is not None:
        levels.append(Level("all reach", lowest))
    return levels


def _published(dataset: str, quantity: Quantity) -> Iterator[Level]:
    """The published target in the unit of the tables, where the data are those of the table."""
    known = dataset_of(dataset)
    if known is None or difference_of_datasets(dataset, known):
        return
    for value in published(known, quantity.metric.name):
        if value.is_target and value.unit == quantity.unit and not value.from_memory:
            yield Level(f"published ({value.source})", value.value)


def _table(
    dataset: str,
    groups: Sequence[Group],
    levels: Sequence[Level],
    curves: Mapping[str, Curve],
    quantity: Quantity,
) -> Table:
    names = setting_names(groups)
    columns = [*(Column(name, heading=True) for name in names), Column("backend", heading=True)]
    for level in levels:
        title = f"{level.name} {fixed(level.value, level_digits(level.value))}"
        columns += [Column(f"to {title}", "s", numeric=True), Column("", "steps", numeric=True)]
    columns += [
        Column("best validation", quantity.unit, numeric=True),
        Column("timing", narrow=True),
    ]
    rows = []
    for group in groups:
        own = [curves[entry.id] for entry in group.entries if entry.id in curves]
        if own:
            cells = [cell for level in levels for cell in _times(own, level.value)]
            best = min(curve.best for curve in own)
            modes = {entry.text("timing.mode") or "" for entry in group.entries if entry.ok}
            mode = modes.pop() if len(modes) == 1 else "mixed"
            head = (*map(Cell, group.settings(names)), Cell(group.labels["backend"]))
            rows.append(Row((*head, *cells, Cell(fixed(best, level_digits(best))), Cell(mode))))
    title = f"{dataset}: seconds of training to a validation likelihood"
    return Table(f"reach-{dataset}", title, tuple(columns), tuple(rows))


def _times(curves: Sequence[Curve], level: float) -> tuple[Cell, Cell]:
    """Seconds and steps until a level, of the seeds that reach it."""
    points = [point for curve in curves if (point := curve.reach(level)) is not None]
    time, steps = summarize(p.seconds for p in points), summarize(float(p.step) for p in points)
    if time is None or steps is None:
        return absent("not reached"), absent("not reached")
    part = "" if len(points) == len(curves) else f" ({len(points)} of {len(curves)})"
    return Cell(spread(time, seconds(time.mean)) + part), Cell(spread(steps, 0))


def _contrast_table(
    dataset: str, paired: Sequence[Contrast], level: float, curves: Mapping[str, Curve]
) -> Table:
    names = setting_names([group for each in paired for group in (each.first, each.second)])
    columns = (
        Column("changed", heading=True),
        Column("first / second", heading=True),
        *(Column(name, heading=True) for name in names),
        Column("backend", heading=True),
        Column("ratio of seconds", numeric=True),
        Column("pairs", numeric=True),
        Column("verdict"),
    )
    rows = tuple(
        Row(
            (
                Cell(each.factor),
                Cell(" / ".join(each.words)),
                *map(Cell, each.second.settings(names)),
                Cell(each.second.labels["backend"]),
                *_ratio(each, level, curves),
            )
        )
        for each in paired
    )
    text = fixed(level, level_digits(level))
    note = "The settings are those of the second."
    return Table(f"reach-paired-{dataset}", f"{dataset}: seconds to {text}", columns, rows, note)


def _ratio(each: Contrast, level: float, curves: Mapping[str, Curve]) -> tuple[Cell, ...]:
    first, second = (_seconds(group, level, curves) for group in (each.first, each.second))
    seeds = sorted(first.keys() & second.keys())
    ratio = paired_ratio([first[s] for s in seeds], [second[s] for s in seeds])
    if ratio is None:
        return absent(), Cell("0"), absent("no seed in common")
    verdict = "no difference detected"
    if ratio.n < _LEAST_PAIRS:
        verdict = "too few seeds"
    elif not Pair(each.first, each.second).fair_seeds().issuperset(seeds):
        verdict = "no verdict: shared the machine"
    elif ratio.excludes(1.0):
        verdict = f"{each.words[0] if ratio.estimate < 1 else each.words[1]} sooner"
    tone: Tone = "muted" if verdict.startswith(("no ", "too ")) else ""
    return Cell(ratio_text(ratio)), Cell(str(ratio.n)), Cell(verdict, tone=tone)


def _seconds(group: Group, level: float, curves: Mapping[str, Curve]) -> dict[int, float]:
    """Seconds to a level by seed; a level that was there before the first step has no ratio."""
    by_seed = {}
    for entry in group.entries:
        point = curves[entry.id].reach(level) if entry.id in curves else None
        if point is not None and point.seconds > 0:
            by_seed[entry.seed] = point.seconds
    return by_seed
