"""Backends compared: quality on the same seeds, speed only where a comparison is fair."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from harness.statistics import mean_interval, paired_ratio
from harness.text import counted
from harness_reports.page.elements import (
    Block,
    Cell,
    Column,
    Paragraph,
    Row,
    Section,
    Table,
    absent,
)
from harness_reports.page.numbers import Scale, first_digit, fixed, uncertainty
from harness_reports.sections.cost import COST_NOTE, STEP, cost_table
from harness_reports.trials.entries import FINGERPRINT, Entry, by_dataset
from harness_reports.trials.groups import setting_names
from harness_reports.trials.pairs import (
    LEAST_PAIRS,
    Pair,
    pairs_of,
    quality_verdict,
    speed_verdict,
)
from harness_reports.trials.quantities import Quantity, quantity_of

__all__ = ["comparison"]

_QUALITY = (
    "Paired by seed: both backends start from the same arrays and see the same batches and probe "
    "noise. Interval: 95 % Student t interval of the mean difference, without correction for the "
    "number of rows, so that one row in twenty shows a difference by chance. Fewer than "
    f"{LEAST_PAIRS} pairs carry no verdict; of two, both differences are given instead."
)
_SPEED = (
    "Ratio of the median training step times, first backend over second, geometric mean over "
    "seeds with the 95 % t interval of its logarithm. Only timings that had the machine to "
    "themselves (mode exclusive), in pairs on one hardware fingerprint."
)


def comparison(entries: Sequence[Entry]) -> Section:
    """Quality and speed of every pair of backends, then what each run cost."""
    quality: list[Block] = []
    speed: list[Block] = []
    costs: list[Block] = []
    for dataset, members in by_dataset(entries).items():
        if pairs := pairs_of(members):
            quality.append(_quality_table(dataset, members, pairs))
            speed += _speed(dataset, pairs)
        costs.append(cost_table(dataset, members))
    if quality:
        quality.append(Paragraph(_QUALITY, "muted"))
    else:
        quality.append(Paragraph("The suite has no two backends for one trial to compare."))
    if any(isinstance(block, Table) for block in speed):
        speed.append(Paragraph(_SPEED, "muted"))
    return Section(
        "backends",
        "Backends compared",
        (*quality, *speed, *costs, Paragraph(COST_NOTE, "muted")),
    )


def _quality_table(dataset: str, members: Sequence[Entry], pairs: Sequence[Pair]) -> Table:
    quantity = quantity_of(members)
    matched = [pair.matched(quantity.column) for pair in pairs]
    differences = [abs(a - b) for values in matched for a, b in values]
    scale = Scale.of(max(differences, default=0.0))
    unit = f"{scale.factor}{quantity.unit}"
    names = _setting_names(pairs)
    columns = (
        *_identity_columns(names, "−"),
        Column(f"difference in {quantity.name}", unit, numeric=True),
        Column("95 % interval", unit, numeric=True),
        Column("pairs", numeric=True),
        Column("verdict"),
    )
    rows = tuple(
        Row((*_identity(pair, names, "−"), *_difference(pair, values, scale)))
        for pair, values in zip(pairs, matched, strict=True)
    )
    note = _agreement(pairs, quantity, differences, scale) if differences else None
    return Table(f"quality-{dataset}", f"{dataset}: quality", columns, rows, note)


def _agreement(
    pairs: Sequence[Pair], quantity: Quantity, differences: Sequence[float], scale: Scale
) -> str:
    """The largest difference in one seed, and for comparison what another seed changes."""
    times = "× " if scale.factor else ""
    most = f"{scale.text(max(differences))} {times}{scale.factor}{quantity.unit}"
    text = (
        f"Over {counted(len(differences), 'pair')} of equal settings and seed, the backends "
        f"differ by at most {most} in {quantity.name}."
    )
    groups = [group for pair in pairs for group in pair.groups]
    spreads = [s.sd for group in groups if (s := group.summary(quantity.column)) and s.sd]
    if not spreads:
        return text
    middle = statistics.median(spreads)
    typical = fixed(middle, max(3, first_digit(middle) + 1))
    return (
        f"{text} Another seed changes it by {typical} {quantity.unit} "
        "(median standard deviation over seeds)."
    )


def _difference(
    pair: Pair, matched: Sequence[tuple[float, float]], scale: Scale
) -> tuple[Cell, ...]:
    scaled = [scale.value(a - b) for a, b in matched]
    difference = mean_interval(scaled)
    if difference is None:
        return _no_values(pair, "no seed in common")
    return (
        Cell(fixed(difference.estimate, scale.digits)),
        Cell(uncertainty(difference, scaled, scale.digits)),
        Cell(str(difference.n)),
        _verdict(quality_verdict(difference, pair.names)),
    )


def _speed(dataset: str, pairs: Sequence[Pair]) -> Iterator[Block]:
    if not any(pair.fair_seeds() for pair in pairs):
        yield Paragraph(f"{dataset}: no speed verdict. {_why_unfair(pairs)}")
        return
    names = _setting_names(pairs)
    columns = (
        *_identity_columns(names, "/"),
        Column("ratio of step times", numeric=True),
        Column("95 % interval", numeric=True),
        Column("pairs", numeric=True),
        Column("verdict"),
    )
    rows = []
    for pair in pairs:
        matched = pair.matched(STEP, pair.fair_seeds())
        ratio = paired_ratio([a for a, _ in matched], [b for _, b in matched])
        cells = _no_values(pair, "shared the machine")
        if ratio is not None:
            cells = (
                Cell(fixed(ratio.estimate, 2)),
                Cell(uncertainty(ratio, [a / b for a, b in matched], 2)),
                Cell(str(ratio.n)),
                _verdict(speed_verdict(ratio, pair.names)),
            )
        rows.append(Row((*_identity(pair, names, "/"), *cells)))
    yield Table(f"speed-{dataset}", f"{dataset}: speed", columns, tuple(rows))


def _why_unfair(pairs: Sequence[Pair]) -> str:
    timed = [
        entry
        for pair in pairs
        for group in pair.groups
        for entry in group.entries
        if entry.ok and entry.number(STEP) is not None
    ]
    if not timed:
        return "No trial was timed."
    shared = sum(not entry.exclusive for entry in timed)
    if shared:
        return (
            f"{shared} of {counted(len(timed), 'timing')} shared the machine with other trials; "
            "only a trial that runs alone measures its backend."
        )
    prints = counted(len({entry.text(FINGERPRINT) for entry in timed}), "hardware fingerprint")
    return f"The backends ran on different machines ({prints}); speeds compare only within one."


def _setting_names(pairs: Sequence[Pair]) -> tuple[str, ...]:
    return setting_names([group for pair in pairs for group in pair.groups])


def _identity_columns(names: Sequence[str], sign: str) -> tuple[Column, ...]:
    return tuple(Column(name, heading=True) for name in (*names, f"first {sign} second"))


def _identity(pair: Pair, names: Sequence[str], sign: str) -> tuple[Cell, ...]:
    return (*map(Cell, pair.first.settings(names)), Cell(f" {sign} ".join(pair.names)))


def _no_values(pair: Pair, otherwise: str) -> tuple[Cell, ...]:
    """The cells of a pair without a value: the backend that has no trial, or another reason."""
    missing = [
        f"{group.labels['backend']} {group.absence}"
        for group in pair.groups
        if not any(entry.ok for entry in group.entries)
    ]
    reason = "; ".join(missing) or otherwise
    return (absent(), absent(), Cell("0"), Cell(reason, tone="bad" if pair.failed else "muted"))


def _verdict(words: str) -> Cell:
    return Cell(words, tone="muted" if words.startswith(("no ", "too ")) else "")
