"""The last sections, folded: environment, how numbers were made, every trial and its record."""

from __future__ import annotations

from collections.abc import Sequence

from harness_reports.page.elements import (
    Cell,
    Column,
    Paragraph,
    Row,
    Section,
    Table,
    Tone,
    absent,
)
from harness_reports.page.numbers import count, fixed
from harness_reports.sections.failures import describe
from harness_reports.trials.entries import (
    Entry,
    anchor,
    backends_of,
    by_dataset,
    settings_note,
)
from harness_reports.trials.quantities import ELBO, NLL, likelihood_of

__all__ = ["environment", "method", "trials"]

_ENVIRONMENT = "environment."


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
        for text, members in values.items():
            cells = (
                Cell(name.removeprefix(_ENVIRONMENT)),
                Cell(text),
                Cell(str(len(members))),
                Cell(", ".join(backends_of(members))),
            )
            rows.append(Row(cells))
    if not rows:
        nothing = Paragraph("Nothing was recorded.", "muted")
        return Section("environment", "Environment", (nothing,), folded=True)
    columns = (
        Column("property", heading=True),
        Column("value"),
        Column("trials", numeric=True),
        Column("backends"),
    )
    table = Table("environment-table", "Machines and versions", columns, tuple(rows))
    return Section("environment", "Environment", (table,), folded=True)


def method(entries: Sequence[Entry]) -> Section:
    """How the numbers were made, in words, and what the trials of each dataset share."""
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
        "Beside this page, the folder figures holds every chart as SVG and as Vega-Lite with its "
        "data; report.md holds the same tables as text.",
    )
    shared = (
        f"{dataset}: {settings_note(members)}" for dataset, members in by_dataset(entries).items()
    )
    blocks = tuple(Paragraph(text) for text in (*texts, *shared))
    return Section("method", "How the numbers were made", blocks, folded=True)


def trials(entries: Sequence[Entry], root: str | None) -> Section:
    """One row a trial, with the path of its record.

    Arguments:
        entries: The trials of the plan.
        root: The run root as commands name it; None if the records come from MLflow.
    """
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
        Column("record", narrow=True),
    )
    rows = tuple(_row(entry, root) for entry in entries)
    table = Table("trials-table", "All trials", columns, rows, sortable=len(rows) > 1)
    return Section("trials", "Trials", (table,), folded=True)


def _row(entry: Entry, root: str | None) -> Row:
    column = likelihood_of([entry]).column
    tone: Tone = "bad" if entry.failed else "" if entry.ok else "muted"
    path = f"{root}/trials/{entry.id}/result.json"
    record = absent("in MLflow" if root is None else "none")
    if entry.record and root is not None:
        record = Cell(path, code=True, copied=path)
    cells = (
        Cell(entry.id, code=True),
        Cell(describe(entry)),
        Cell(str(entry.seed), value=entry.seed),
        Cell(entry.state, tone=tone),
        _number(entry, column, 4),
        _number(entry, f"{column}.sem", 4),
        _number(entry, f"{column}.probe_sem", 4),
        _number(entry, f"{column}.n", None),
        _number(entry, "attempts", None),
        record,
    )
    return Row(cells, id=anchor(entry.id))


def _number(entry: Entry, column: str, digits: int | None) -> Cell:
    value = entry.number(column)
    if value is None:
        return absent()
    return Cell(count(value) if digits is None else fixed(value, digits), value=value)
