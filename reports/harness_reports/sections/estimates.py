"""What the trials were expected to take, beside what they took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.records.durations import spent_seconds
from harness.records.estimates import Estimate, read_estimates
from harness_reports.page.elements import Cell, Column, Paragraph, Row, Section, Table
from harness_reports.trials.entries import Entry, by_dataset

__all__ = ["estimates"]

_TIMING = "timing."


def estimates(entries: Sequence[Entry], suite: str, root: Path | None) -> Section:
    """One row a dataset: hours expected when its trials were started, and hours taken.

    Arguments:
        entries: The trials of the report.
        suite: Name of the suite, under which its estimates are kept.
        root: The run root; None where the records come from MLflow, which has no estimates.

    Raises:
        RecordError: The file of estimates is damaged.
    """
    known = read_estimates(root, suite) if root is not None else {}
    ended = [entry for entry in entries if entry.ok and entry.id in known]
    if not ended:
        text = "No trial was estimated before it ran (harness plan SUITE --estimate)."
        return Section("estimates", "Estimate and actual", (Paragraph(text, "muted"),))
    columns = (
        Column("dataset", heading=True),
        Column("trials", numeric=True),
        Column("estimate", "h", numeric=True),
        Column("range", "h", numeric=True),
        Column("taken", "h", numeric=True),
        Column("taken / estimate", numeric=True),
        Column("in range", numeric=True),
    )
    rows = [_row(name, group, known) for name, group in by_dataset(ended).items()]
    if len(rows) > 1:
        rows.append(_row("all", ended, known))
    note = (
        "Trials that ended ok and had an estimate when they were started, added up as if one ran "
        "after the other. In range: trials whose own time lay within their own range. Times that "
        "the machine was shared in are longer than those of a machine alone."
    )
    table = Table("estimates-table", "Hours of trials", columns, tuple(rows), note)
    return Section("estimates", "Estimate and actual", (table,))


def _row(name: str, entries: Sequence[Entry], known: dict[str, Estimate]) -> Row:
    taken = [_taken(entry) for entry in entries]
    expected = [known[entry.id] for entry in entries]
    seconds = sum(each.seconds for each in expected)
    low, high = sum(each.low for each in expected), sum(each.high for each in expected)
    inside = sum(e.low <= s <= e.high for e, s in zip(expected, taken, strict=True))
    return Row(
        (
            Cell(name),
            Cell(str(len(entries))),
            Cell(_hours(seconds)),
            Cell(f"{_hours(low)}–{_hours(high)}"),
            Cell(_hours(sum(taken))),
            Cell(f"{sum(taken) / seconds:.2f}" if seconds else "none"),
            Cell(f"{inside} of {len(entries)}"),
        )
    )


def _taken(entry: Entry) -> float:
    return spent_seconds(
        {
            name.removeprefix(_TIMING): value
            for name in entry.record
            if name.startswith(_TIMING) and (value := entry.number(name)) is not None
        }
    )


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g}"
