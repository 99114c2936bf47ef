"""The section of trials that were run again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import pytest
from finished_run import Records
from harness_reports.page.elements import Paragraph, Table
from harness_reports.sections.verification import verification
from harness_reports.trials.entries import Entry, entries_of

from harness.records.verified import Parting, Verification, write_verification

AGREES = Verification(
    trial_id="",
    attempt_id="",
    backend="torch",
    verdict="bitwise",
    expects_bitwise=True,
    reason="the same bits",
    parted=None,
    largest=0.0,
    weights=0,
    spread=None,
    finished_ms=1,
    harness="0.1.0",
)


@pytest.fixture
def entries(records: Records, frame: pd.DataFrame) -> Iterator[list[Entry]]:
    yield [entry for entry in entries_of(records.plan, frame) if entry.ok][:3]
    for path in sorted((records.root / "verified").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


def test_it_says_what_came_out(records: Records, entries: list[Entry]) -> None:
    first, second, third = entries
    parted = Parting(40, "loss", 2.0, 2.5)
    written = (
        replace(AGREES, trial_id=first.id, attempt_id=str(first.text("attempt_id"))),
        replace(
            AGREES,
            trial_id=second.id,
            attempt_id=str(second.text("attempt_id")),
            verdict="not_same",
            parted=parted,
            reason="the curves differ",
        ),
        # Of a result that has been replaced since.
        replace(AGREES, trial_id=third.id, attempt_id="0" * 12),
    )
    for each in written:
        write_verification(records.root, each)
    (table,) = verification(entries, records.root).blocks
    assert isinstance(table, Table)
    by_trial = {row.cells[0].links[0].text: row.cells for row in table.rows}
    assert by_trial.keys() == {first.id, second.id}
    assert (by_trial[first.id][3].text, by_trial[first.id][3].tone) == ("the same bits", "good")
    assert by_trial[second.id][3].text == "not the same; the same bits were due"
    assert by_trial[second.id][3].tone == "bad"
    assert [by_trial[e.id][4].text for e in (first, second)] == ["nowhere", "step 40"]
    assert table.note is not None
    assert table.note.startswith("1 of 2 repetitions")


def test_nothing_verified_takes_one_line(records: Records, entries: list[Entry]) -> None:
    for root in (records.root, None):
        (block,) = verification(entries, root).blocks
        assert isinstance(block, Paragraph)
