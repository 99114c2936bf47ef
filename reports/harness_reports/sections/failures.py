"""What failed, was skipped or is still to run: why, what helps, and how to try again."""

from __future__ import annotations

from collections.abc import Sequence

from harness.labels import MAIN_AXES
from harness.records.status import Status
from harness.text import counted
from harness_reports.page.elements import Block, Cell, Column, Link, Paragraph, Row, Section, Table
from harness_reports.trials.entries import Entry, anchor

__all__ = ["describe", "failures"]

_REMEDIES = {status.value: status.remedy for status in Status}


def failures(entries: Sequence[Entry], command: str) -> Section:
    """One row for each trial that failed, and one for each reason to skip.

    Arguments:
        entries: The trials of the plan.
        command: The command that runs the suite, with its root.
    """
    blocks: list[Block] = []
    failed = [entry for entry in entries if entry.failed]
    waiting = [entry for entry in entries if entry.waiting]
    skipped = [entry for entry in entries if entry.skipped]
    if failed:
        blocks.append(_failed_table(failed, command))
    if skipped:
        blocks.append(_skipped_table(skipped))
    if waiting:
        text = f"{counted(len(waiting), 'trial')} not run yet. To run what is missing: "
        blocks.append(Paragraph(f"{text}{command}"))
    if not blocks:
        blocks.append(Paragraph("Every trial of the suite ended as planned."))
    return Section("failures", "Failed and skipped", tuple(blocks))


def _failed_table(failed: Sequence[Entry], command: str) -> Table:
    columns = (
        Column("trial", heading=True),
        Column("what"),
        Column("seed", numeric=True),
        Column("status"),
        Column("reason"),
        Column("what helps"),
        Column("run again"),
    )
    rows = tuple(
        Row(
            (
                Cell("", links=(Link(entry.id[:8], anchor(entry.id)),)),
                Cell(describe(entry)),
                Cell(str(entry.seed)),
                Cell(entry.state, tone="bad"),
                Cell(entry.text("message") or "no message was recorded"),
                Cell(_REMEDIES.get(entry.status, "")),
                _again(entry, command),
            )
        )
        for entry in failed
    )
    return Table("failed", f"{counted(len(failed), 'trial')} failed", columns, rows)


def _again(entry: Entry, command: str) -> Cell:
    # A divergence is a result, which the same command again would keep.
    rerun = " --rerun" if Status(entry.status).is_final else ""
    text = f"{command} -k id={entry.id} --executor inline{rerun}"
    return Cell(text, code=True, copied=text)


def _skipped_table(skipped: Sequence[Entry]) -> Table:
    reasons: dict[str, list[Entry]] = {}
    for entry in skipped:
        reasons.setdefault(entry.planned.reason or "no reason was given", []).append(entry)
    rows = tuple(
        Row(
            (
                Cell(reason),
                Cell(str(len(members))),
                Cell("; ".join(dict.fromkeys(describe(entry) for entry in members))),
            )
        )
        for reason, members in reasons.items()
    )
    columns = (Column("reason", heading=True), Column("trials", numeric=True), Column("which"))
    return Table("skipped", f"{counted(len(skipped), 'trial')} skipped", columns, rows)


def describe(entry: Entry) -> str:
    """The main axes without the seed, in one line."""
    return ", ".join(entry.labels[axis] for axis in MAIN_AXES if axis != "seed")
