"""Backends compared: quality on the same seeds, speed only where a comparison is fair."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from harness.statistics import mean_interval, paired_ratio
from harness_reports.page.elements import Block, Cell, Column, Paragraph, Row, Section, Table
from harness_reports.page.numbers import Scale, first_digit, fixed, plural, uncertainty
from harness_reports.sections.cost import COST_NOTE, cost_table
from harness_reports.trials.entries import FINGERPRINT, Entry, by_dataset
from harness_reports.trials.groups import varying
from harness_reports.trials.pairs import (
    LEAST_PAIRS,
    Pair,
    pairs_of,
    quality_verdict,
    speed_verdict,
)
from harness_reports.trials.quantities import Quantity, quantity_of

__all__ = ["comparison"]

STEP = "timing.step_s.median"

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
    for dataset, members in by_dataset(entries).items():
        if pairs := pairs_of(members):
            quality.append(_quality_table(dataset, members, pairs))
            speed += _speed(dataset, pairs)
    if quality:
        quality.append(Paragraph(_QUALITY, "muted"))
    else:
        quality.append(Paragraph("The suite has no two backends for one trial to compare."))
    if any(isinstance(block, Table) for block in speed):
        speed.append(Paragraph(_SPEED, "muted"))
    costs = [cost_table(dataset, found) for dataset, found in by_dataset(entries).items()]
    return Section(
        "backends",
        "Backends compared",
        (*quality, *speed, *costs, Paragraph(COST_NOTE, "muted")),
    )


def _quality_table(dataset: str, members: Sequence[Entry], pairs: Sequence[Pair]) -> Table:
    quantity = quantity_of(members)
    matched = [pair.matched(quantity.column) for pair in pairs]
    differences = [abs(a - b) for found in matched for a, b in found]
    scale = Scale.of(max(differences, default=0.0))
    unit = f"{scale.factor}{quantity.unit}"
    columns = (
        *_identity_columns(pairs, "−"),
        Column(f"difference in {quantity.name}", unit, numeric=True),
        Column("95 % interval", unit, numeric=True),
        Column("pairs", numeric=True),
        Column("verdict"),
    )
    rows = tuple(
        Row((*_identity(pair, _extra(pairs), "−"), *_difference(pair, found, scale)))
        for pair, found in zip(pairs, matched, strict=True)
    )
    note = _agreement(pairs, quantity, differences, scale) if differences else None
    return Table(f"quality-{dataset}", f"{dataset}: quality", columns, rows, note)


def _agreement(
    pairs: Sequence[Pair], quantity: Quantity, differences: Sequence[float], scale: Scale
) -> str:
    """The largest difference in one seed, beside what another seed changes."""
    times = "× " if scale.factor else ""
    most = f"{scale.text(max(differences))} {times}{scale.factor}{quantity.unit}"
    text = (
        f"Over {plural(len(differences), 'pair')} of equal settings and seed, the backends differ "
        f"by at most {most} in {quantity.name}."
    )
    groups = [group for pair in pairs for group in (pair.first, pair.second)]
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
        return _absent(pair)
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
    columns = (
        *_identity_columns(pairs, "/"),
        Column("ratio of step times", numeric=True),
        Column("95 % interval", numeric=True),
        Column("pairs", numeric=True),
        Column("verdict"),
    )
    extra = _extra(pairs)
    rows = []
    for pair in pairs:
        matched = pair.matched(STEP, pair.fair_seeds())
        ratio = paired_ratio(*_split(matched))
        cells = _absent(pair, "shared the machine")
        if ratio is not None:
            cells = (
                Cell(fixed(ratio.estimate, 2)),
                Cell(uncertainty(ratio, [a / b for a, b in matched], 2)),
                Cell(str(ratio.n)),
                _verdict(speed_verdict(ratio, pair.names)),
            )
        rows.append(Row((*_identity(pair, extra, "/"), *cells)))
    yield Table(f"speed-{dataset}", f"{dataset}: speed", columns, tuple(rows))


def _why_unfair(pairs: Sequence[Pair]) -> str:
    timed = [
        entry
        for pair in pairs
        for group in (pair.first, pair.second)
        for entry in group.entries
        if entry.ok and entry.number(STEP) is not None
    ]
    if not timed:
        return "No trial was timed."
    shared = sum(entry.text("timing.mode") != "exclusive" for entry in timed)
    if shared:
        return (
            f"{shared} of {plural(len(timed), 'timing')} shared the machine with other trials; "
            "only a trial that runs alone measures its backend."
        )
    places = {entry.text(FINGERPRINT) for entry in timed}
    return (
        f"The backends ran on different machines ({plural(len(places), 'hardware fingerprint')}); "
        "speeds compare only within one."
    )


def _identity_columns(pairs: Sequence[Pair], sign: str) -> tuple[Column, ...]:
    names = ("solver", "regularizer", *_extra(pairs), f"first {sign} second")
    return tuple(Column(name, heading=True) for name in names)


def _identity(pair: Pair, extra: Iterable[str], sign: str) -> tuple[Cell, ...]:
    labels = pair.first.labels
    names = ("solver", "regularizer", *extra)
    cells = tuple(Cell(labels.get(name, "")) for name in names)
    return (*cells, Cell(f" {sign} ".join(pair.names)))


def _extra(pairs: Sequence[Pair]) -> tuple[str, ...]:
    return varying([group for pair in pairs for group in (pair.first, pair.second)])


def _absent(pair: Pair, otherwise: str = "no seed in common") -> tuple[Cell, ...]:
    missing = [
        f"{group.labels['backend']} {group.absence}"
        for group in (pair.first, pair.second)
        if not any(entry.ok for entry in group.entries)
    ]
    reason = "; ".join(missing) or otherwise
    blank = Cell("not run", tone="muted")
    return (blank, blank, Cell("0"), Cell(reason, tone="bad" if pair.failed else "muted"))


def _verdict(words: str) -> Cell:
    return Cell(words, tone="muted" if words.startswith(("no ", "too ")) else "")


def _split(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in pairs], [b for _, b in pairs]
