"""The quality of the backends on the same seeds: every pair with its difference and verdict."""

from __future__ import annotations

from collections.abc import Sequence

from harness.comparison.margin import SEED_SHARE
from harness.records.verified import PARITY_BAR
from harness.statistics import mean_interval
from harness_reports.page.elements import Block, Cell, Column, Row, Table, Tone
from harness_reports.page.numbers import Scale, short, with_width
from harness_reports.trials.comparisons import (
    CORRECTION,
    LEVEL,
    Comparison,
)
from harness_reports.trials.groups import setting_names

__all__ = ["comparison_blocks", "verdict_words"]

_NOTE = (
    "Paired by seed: both backends start from the same arrays and see the same batches and probe "
    "noise. ± is the half-width of the 95 % Student t interval of the mean difference. The margin "
    f"of a dataset is the larger of {PARITY_BAR['float32']:g} of max(1, value), to which one "
    f"training loss of both agrees in single precision ({PARITY_BAR['float64']:g} in double), and "
    f"{SEED_SHARE:g} of what another seed changes (median standard deviation over seeds), rounded "
    "down to one digit. Same: two one-sided tests say that the "
    "difference lies within the margin. Better: it lies beyond. Undecided: neither is certain at "
    f"{LEVEL:.0%}, all rows together ({CORRECTION})."
)


def comparison_blocks(comparisons: Sequence[Comparison]) -> list[Block]:
    """One row a pair of backends."""
    measured = [one for one in comparisons if one.differences]
    if not measured:
        return []
    names = setting_names([group for one in comparisons for group in one.pair.groups])
    columns = (
        Column("dataset", heading=True),
        Column("verdict", wide=True),
        Column("difference", numeric=True),
        Column("unit", narrow=True),
        Column("margin", numeric=True),
        Column("another seed", numeric=True),
        *(Column(name) for name in names),
        Column("first − second"),
        Column("pairs", numeric=True),
    )
    rows: list[Row] = []
    above = None
    for one in comparisons:
        cells = (*_verdict(one), *map(Cell, one.pair.first.settings(names)))
        pairs = f"{len(one.differences)} of {one.planned}"
        pairs = str(len(one.differences)) if one.complete else pairs
        tail = (Cell(" − ".join(one.pair.names)), Cell(pairs, value=len(one.differences)))
        opens = above not in (None, one.dataset)
        rows.append(Row((Cell(one.dataset), *cells, *tail), opens_group=opens))
        above = one.dataset
    sortable = len(rows) > 1
    table = Table("quality-table", "Quality", columns, tuple(rows), _NOTE, sortable=sortable)
    return [table]


def verdict_words(one: Comparison) -> str:
    """`same within 0.0004`, `jax better`, `undecided`, `one pair, no verdict`, what is missing."""
    match one.outcome:
        case "same":
            return f"same within {short(one.margin)}"
        case "lower" | "higher":
            return f"{one.better} better"
        case "undecided":
            return "undecided"
        case "one pair":
            return "one pair, no verdict"
        case "no pair":
            missing = [
                f"{group.labels['backend']} {group.absence}"
                for group in one.pair.groups
                if not any(entry.ok for entry in group.entries)
            ]
            return "; ".join(missing) or "no seed in common"


def _verdict(one: Comparison) -> tuple[Cell, ...]:
    unit, interval = one.quantity.unit, one.interval
    words = verdict_words(one)
    bounds = (
        Cell(short(one.margin), value=one.margin),
        Cell(short(one.spread) if one.spread else "not known", value=one.spread),
    )
    if interval is None:
        tone: Tone = "bad" if one.pair.failed else "muted"
        return Cell(words, tone=tone), Cell("none", tone="muted"), Cell(unit), *bounds
    scale = Scale.of(max(abs(value) for value in one.differences))
    scaled = mean_interval([scale.value(value) for value in one.differences])
    text = "none" if scaled is None else with_width(scaled, scale.digits)
    sure = one.outcome in ("same", "lower", "higher")
    return (
        Cell(words, tone="good" if one.outcome == "same" else "" if sure else "muted"),
        Cell(text, value=interval.estimate),
        Cell(f"{scale.factor}{unit}"),
        *bounds,
    )
