"""The section that sets estimates beside what trials took."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from finished_run import Records, write_records
from harness_reports.page.elements import Paragraph, Table
from harness_reports.sections.estimates import estimates
from harness_reports.trials.entries import entries_of

from harness.records.estimates import Estimate, write_estimates
from harness.records.frame import load


def test_estimate_and_actual_add_up(tmp_path: Path) -> None:
    records = write_records(tmp_path)
    entries = [e for e in entries_of(records.plan, load(records.root)) if e.ok][:2]
    taken = []
    for entry in entries:
        parts = ("import", "build", "compile", "train", "val", "test")
        taken.append(sum(entry.number(f"timing.{name}_s") or 0.0 for name in parts))
    known = {
        entries[0].id: Estimate(taken[0] * 2, taken[0], taken[0] * 3, "records", 3),
        entries[1].id: Estimate(taken[1] * 2, taken[1] * 1.5, taken[1] * 3, "probe", 1),
    }
    write_estimates(records.root, records.plan.suite, known)
    (table,) = estimates(entries, records.plan.suite, records.root).blocks
    assert isinstance(table, Table)
    cells = [cell.text for cell in table.rows[-1].cells]
    assert cells[1] == "2"
    assert cells[2] == f"{2 * sum(taken) / 3600:.3g}"
    assert cells[4:] == [f"{sum(taken) / 3600:.3g}", "0.50", "1 of 2"]


def test_no_estimate_takes_one_line(records: Records, frame: pd.DataFrame) -> None:
    entries = entries_of(records.plan, frame)
    for root in (records.root, None):
        (block,) = estimates(entries, records.plan.suite, root).blocks
        assert isinstance(block, Paragraph)
