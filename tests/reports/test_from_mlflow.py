"""The mirror in MLflow is complete: the report made from it has the same tables and charts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from harness_reports.page.elements import Section
from harness_reports.report import page_of

from harness.planning.plan import Plan
from harness.records import mlflow as tracking

pytest.importorskip("mlflow")


def without_pictures(sections: tuple[Section, ...]) -> list[Section]:
    return [section for section in sections if section.id != "pictures"]


def test_report_from_mlflow_has_the_same_sections(
    root: Path, plan: Plan, frame: pd.DataFrame, curves: pd.DataFrame, tmp_path: Path
) -> None:
    # One setting in both backends and all failures: few runs, since MLflow is slow to store each.
    digits = [p for p in plan.trials if p.trial.dataset.name == "digits"]
    few = [p for p in digits if p.trial.solver.name == "dopri5"]
    small = Plan(plan.suite, plan.description, tuple(few), plan.gates)
    ids = [planned.trial.id for planned in few]
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert tracking.sync(root, uri, trial_ids=ids) == len(ids)
    here = page_of(small, frame, root=None, history=curves)
    mirrored = tracking.load(root, uri)
    there = page_of(small, mirrored, root=None, history=tracking.history(root, ids, uri))
    assert len(mirrored) == len(ids)
    assert without_pictures(there.sections) == without_pictures(here.sections)
