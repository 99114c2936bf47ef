"""Verification: recorded trials that were run again, and how that came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.records.verified import Verdict, Verification, read_verifications
from harness_reports.page.elements import (
    Cell,
    Column,
    Link,
    Paragraph,
    Row,
    Section,
    Table,
    Tone,
)
from harness_reports.sections.failures import describe
from harness_reports.trials.entries import Entry, anchor

__all__ = ["verification"]

_WORDS: dict[Verdict, str] = {
    "bitwise": "the same bits",
    "within_tolerance": "within the tolerance",
    "statistically": "statistically the same",
    "undecided": "undecided",
    "not_same": "not the same",
    "not_run": "not run",
}


def verification(entries: Sequence[Entry], root: Path | None) -> Section:
    """One row a repetition; of results that were replaced since, there is none.

    Arguments:
        entries: The trials of the report.
        root: The run root; None where the records come from MLflow, which has no verifications.

    Raises:
        RecordError: A verification is damaged.
    """
    attempts = {
        entry.id: attempt for entry in entries if (attempt := entry.text("attempt_id")) is not None
    }
    repetitions = list(read_verifications(root, attempts)) if root is not None else []
    if not repetitions:
        text = "No trial has been run again to verify its record (harness verify)."
        return Section("verification", "Verification", (Paragraph(text, "muted"),))
    known = {entry.id: entry for entry in entries}
    columns = (
        Column("trial", heading=True),
        Column("what"),
        Column("again in"),
        Column("verdict"),
        Column("curves part", narrow=True),
        Column("finding", wide=True),
    )
    rows = tuple(_row(each, known[each.trial_id]) for each in repetitions)
    kept = sum(each.is_kept for each in repetitions)
    note = (
        f"{kept} of {len(repetitions)} repetitions agree as far as they must: bit for bit where "
        "the machine, the versions and the backend are those of the record, otherwise within the "
        "tolerance or within the margin of a result."
    )
    table = Table("verification-table", "Trials that were run again", columns, rows, note)
    return Section("verification", "Verification", (table,))


def _row(repetition: Verification, entry: Entry) -> Row:
    tone: Tone = "good" if repetition.is_kept else "bad"
    if repetition.verdict in ("undecided", "not_run"):
        tone = "muted"
    parted = "nowhere" if repetition.parted is None else f"step {repetition.parted.step:,}"
    words = _WORDS[repetition.verdict]
    if repetition.expects_bitwise and repetition.verdict != "bitwise":
        words += "; the same bits were due"
    return Row(
        (
            Cell("", links=(Link(entry.id, anchor(entry.id)),)),
            Cell(f"{describe(entry)}, seed {entry.seed}"),
            Cell(repetition.backend),
            Cell(words, tone=tone),
            Cell(
                parted if repetition.weights is not None or repetition.parted else "not compared"
            ),
            Cell(repetition.reason),
        )
    )
