"""Several suites on one page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from finished_run import NOT_RUN, trials
from harness_reports.overview import Recorded, render_overview, render_suites

from harness.planning.plan import Plan
from harness.records.frame import history_of

PLACE = Path("published")


def _begun() -> pd.DataFrame:
    """The curve of the trial that has no record."""
    (waiting,) = (trial for key, trial in trials() if key == NOT_RUN)
    rows = [("val_nll", 100, 3.5), ("val_nll", 200, 3.25), ("val_nll", 300, 3.75), ("nll", 340, 3)]
    return history_of((waiting.id, name, step, value, 0) for name, step, value in rows)


def test_a_suite_is_a_row_with_what_has_ended_and_begun(plan: Plan, frame: pd.DataFrame) -> None:
    started = replace(plan, suite="begun", trials=plan.trials[-3:-2])
    suites = [
        Recorded(PLACE / "synthetic", plan, frame, _begun()),
        Recorded(PLACE / "begun", replace(plan, suite="begun"), frame[:0], _begun()),
        Recorded(PLACE / "none", replace(started, suite="none"), frame[:0], _begun()[:0]),
    ]
    row, empty, rest = render_overview(suites).splitlines()[2:]
    cells = row.strip("| ").split(" | ")
    assert cells[0] == "[synthetic](published/synthetic/report.md)"
    assert cells[1] == "31 of 34, 1 begun"
    assert cells[2].startswith("8gaussians ")
    assert "; digits " in cells[2]
    assert cells[2].endswith("bits/dim")
    assert empty == ""
    begun, none = (f"[{name}](published/{name}/report.md)" for name in ("begun", "none"))
    assert rest == f"No trial has ended of: {begun} (0 of 34, 1 begun), {none} (0 of 1)."


def test_how_far_a_trial_has_come(plan: Plan, frame: pd.DataFrame) -> None:
    text = render_suites([Recorded(PLACE / "synthetic", plan, frame, _begun())], PLACE)
    assert "## synthetic" in text
    assert "[Report](synthetic/report.md); 31 of 34 trials ended." in text
    assert "| 340 | 1,000 | 3.250 nats | 200 |" in text
