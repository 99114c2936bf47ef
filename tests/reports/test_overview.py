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
    rows = render_overview(suites).splitlines()[2:]
    assert len(rows) == 3
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert cells[0][0] == "[synthetic](published/synthetic/report.md)"
    assert cells[0][1] == "31 of 34, 1 begun"
    assert cells[0][2].startswith("8gaussians ")
    assert "; digits " in cells[0][2]
    assert cells[0][2].endswith("bits/dim")
    assert cells[1][1:] == ["0 of 34, 1 begun", "none", "not run"]
    assert cells[2][1:] == ["0 of 1", "none", "not run"]


def test_how_far_a_trial_has_come(plan: Plan, frame: pd.DataFrame) -> None:
    text = render_suites([Recorded(PLACE / "synthetic", plan, frame, _begun())], PLACE)
    assert "## synthetic" in text
    assert "[Report](synthetic/report.md); 31 of 34 trials ended." in text
    assert "| 340 | 1,000 | 3.250 nats | 200 |" in text
