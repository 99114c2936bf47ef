"""The last sections: environment, how numbers were made, and every trial with its whole record."""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.text import counted
from harness_reports.page.elements import (
    Block,
    Cell,
    Column,
    Details,
    Link,
    Paragraph,
    Row,
    Section,
    Table,
    Tone,
    absent,
)
from harness_reports.page.numbers import count, fixed
from harness_reports.sections.failures import describe
from harness_reports.trials.entries import Entry, anchor, backends_of
from harness_reports.trials.quantities import ELBO, NLL, likelihood_of

__all__ = ["environment", "method", "trials"]

_ENVIRONMENT = "environment."
_UNFOLDED = 200
"""The records of more trials would make the page slow; all are in the run folder."""


def environment(entries: Sequence[Entry]) -> Section:
    """Each recorded property of the machines: its values, and which backends ran with them."""
    recorded = [entry for entry in entries if entry.record]
    names = sorted(
        {name for entry in recorded for name in entry.record if name.startswith(_ENVIRONMENT)}
    )
    rows: list[Row] = []
    for name in names:
        values: dict[str, list[Entry]] = {}
        for entry in recorded:
            if (text := entry.text(name)) is not None:
                values.setdefault(text, []).append(entry)
        for index, (text, members) in enumerate(values.items()):
            cells = (
                Cell(name.removeprefix(_ENVIRONMENT) if index == 0 else ""),
                Cell(text),
                Cell(str(len(members))),
                Cell(", ".join(backends_of(members))),
            )
            rows.append(Row(cells))
    if not rows:
        return Section(
            "environment", "Environment", (Paragraph("Nothing was recorded.", "muted"),)
        )
    columns = (
        Column("property", heading=True),
        Column("value"),
        Column("trials", numeric=True),
        Column("backends"),
    )
    table = Table("environment-table", "Machines and versions", columns, tuple(rows))
    return Section("environment", "Environment", (table,))


def method() -> Section:
    """How the numbers were made, in words."""
    texts = (
        "A trial is one point of the grid with one seed. Its identity is the SHA-256 of its fully "
        "resolved specification, so equal ids mean the same computation. Every number here is "
        "read from the records of the trials; nothing is computed by running a model again.",
        "Both backends start from the same arrays and draw the same batches and probe noise from "
        "counter-based streams; they integrate with the same Runge-Kutta tableaux under the same "
        "step-size control. NLL is in nats per example; bits/dim is NLL / (D ln 2) on integer "
        "levels. The arrays of the best validation are the ones tested, where the suite says so.",
        "Steps are timed between synchronisations of the device, without compilation and the "
        "first step. Trials that ran alone have timing mode exclusive; only those are compared.",
        "Beside this page, the folder figures holds every chart as SVG, as PNG and as Vega-Lite "
        "with its data; report.md holds the same tables as text.",
    )
    return Section("method", "How the numbers were made", tuple(Paragraph(text) for text in texts))


def trials(entries: Sequence[Entry]) -> Section:
    """One row a trial, and below the table the whole record of each, folded."""
    columns = (
        Column("trial", heading=True),
        Column("what"),
        Column("seed", numeric=True),
        Column("status"),
        Column(f"{NLL.name} or {ELBO.name}", NLL.unit, numeric=True),
        Column("standard error over rows", NLL.unit, numeric=True),
        Column("standard error over probes", NLL.unit, numeric=True),
        Column("test rows", numeric=True),
        Column("attempts", numeric=True),
    )
    recorded = [entry for entry in entries if entry.record]
    shown = recorded[:_UNFOLDED]
    folded = {entry.id for entry in shown}
    rows = tuple(_row(entry, entry.id in folded) for entry in entries)
    blocks: list[Block] = [Table("trials-table", "All trials", columns, rows)]
    blocks += [_record(entry) for entry in shown]
    if len(shown) < len(recorded):
        rest = counted(len(recorded) - len(shown), "more record")
        blocks.append(Paragraph(f"{rest} in the run folder: trials/<trial>/result.json.", "muted"))
    return Section("trials", "Trials", tuple(blocks))


def _row(entry: Entry, folded: bool) -> Row:
    name = Cell("", links=(Link(entry.id, anchor(entry.id)),)) if folded else Cell(entry.id)
    column = likelihood_of([entry]).column
    tone: Tone = "bad" if entry.failed else "" if entry.ok else "muted"
    return Row(
        (
            name,
            Cell(describe(entry)),
            Cell(str(entry.seed)),
            Cell(entry.state, tone=tone),
            _number(entry, column, 4),
            _number(entry, f"{column}.sem", 4),
            _number(entry, f"{column}.probe_sem", 4),
            _number(entry, f"{column}.n", None),
            _number(entry, "attempts", None),
        )
    )


def _number(entry: Entry, column: str, digits: int | None) -> Cell:
    value = entry.number(column)
    if value is None:
        return absent()
    return Cell(count(value) if digits is None else fixed(value, digits))


def _record(entry: Entry) -> Details:
    record = {
        name: value
        for name, value in entry.record.items()
        if name not in ("spec", *entry.labels) and entry.text(name) is not None
    }
    spec = json.loads(entry.record["spec"])
    text = json.dumps({"trial": spec, "record": record}, indent=1, ensure_ascii=False)
    return Details(anchor(entry.id), f"{entry.id}: {describe(entry)}, seed {entry.seed}", text)
