"""Records as tables: one row a trial, dotted columns, curves merged over attempts."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import harness
from harness.errors import RecordError
from harness.planning.plan import Plan
from harness.records.columns import flatten, metric_column, metric_of, result_columns
from harness.records.frame import history

CORE = "import harness, sys; print(sorted({'pandas', 'altair'} & set(sys.modules)))"


def test_one_row_for_each_committed_trial(plan: Plan, frame: pd.DataFrame) -> None:
    finished = {p.trial.id for p in plan.trials if p.state == "finished"}
    assert set(frame["trial_id"]) == finished
    assert frame["trial_id"].is_monotonic_increasing


def test_values_are_those_of_the_record(root: Path, frame: pd.DataFrame) -> None:
    row = frame[frame["status"] == "ok"].iloc[0]
    path = root / "trials" / row["trial_id"] / "result.json"
    result = json.loads(path.read_text())
    assert row["metrics.test_nll"] == result["metrics"]["test_nll"]["value"]
    assert row["metrics.test_nll.sem"] == result["metrics"]["test_nll"]["sem"]
    assert row["metrics.test_nll.unit"] == "nats"
    assert row["timing.step_s.median"] == result["timing"]["step_s"]["median"]
    assert row["nfe.train.backward.mean"] == result["nfe"]["train"]["backward"]["mean"]
    assert row["environment.variables.OMP_NUM_THREADS"] == "2"
    assert json.loads(row["spec"])["seed"] == row["seed"]


def test_failed_trials_have_a_row_and_no_numbers(frame: pd.DataFrame) -> None:
    failed = frame[frame["status"] != "ok"]
    assert sorted(failed["status"]) == ["diverged", "error", "out_of_memory", "timeout"]
    assert failed["metrics.test_nll"].isna().all()


def test_labels_are_columns(frame: pd.DataFrame) -> None:
    assert set(frame["backend"]) == {"torch", "jax"}
    assert set(frame["solver"]) == {"dopri5 rtol=1e-05 atol=1e-05", "rk4_38 steps=8"}
    assert frame["seed"].dtype.kind == "i"


def test_an_empty_root_is_an_empty_table(tmp_path: Path) -> None:
    found = harness.load(tmp_path)
    assert len(found) == 0
    assert {"trial_id", "dataset", "status"} <= set(found.columns)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "trials" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"trial_id": ')
    with pytest.raises(RecordError, match="0123456789abcdef"):
        harness.load(tmp_path)


def test_no_file_of_a_trial_that_is_not_asked_for_is_read(
    root: Path, frame: pd.DataFrame, tmp_path: Path
) -> None:
    wanted = list(frame["trial_id"])[:2]
    for trial_id in wanted:
        shutil.copytree(root / "trials" / trial_id, tmp_path / "trials" / trial_id)
    damaged = tmp_path / "trials" / "0123456789abcdef"
    damaged.mkdir()
    (damaged / "result.json").write_text('{"trial_id": ')
    found = harness.load(tmp_path, [*reversed(wanted), "absent"])
    assert list(found["trial_id"]) == wanted


def test_importing_harness_imports_no_pandas() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CORE], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_unknown_attribute_is_refused() -> None:
    with pytest.raises(AttributeError, match="lod"):
        harness.lod  # noqa: B018


def attempt(root: Path, name: str, lines: list[dict[str, Any]], tail: str = "") -> None:
    folder = root / "trials" / "t" / f"attempt-{name}"
    folder.mkdir(parents=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + tail)


def line(step: int, stamp: int, nll: float) -> dict[str, Any]:
    return {"step": step, "timestamp_ms": stamp, "nll": nll}


def test_newest_attempt_wins_and_a_torn_line_is_dropped(tmp_path: Path) -> None:
    # Names sort the other way round than times.
    attempt(tmp_path, "b", [line(10, 1, 5.0), line(20, 2, 4.0), line(30, 3, 3.5)], '{"step": 4')
    attempt(tmp_path, "a", [line(20, 9, 4.5), line(40, 10, 3.0)])
    found = history(tmp_path, ["t", "absent"])
    assert list(found.columns) == ["trial_id", "metric", "step", "value", "timestamp_ms"]
    assert list(zip(found["step"], found["value"], strict=True)) == [
        (10, 5.0),
        (20, 4.5),
        (30, 3.5),
        (40, 3.0),
    ]


def test_flatten() -> None:
    nested = {"a": {"b": 1, "c": None}, "d": [1, 2], "e": True, "f": math.nan, "g": "x"}
    assert flatten(nested) == {"a.b": 1, "d": "1, 2", "e": "yes", "g": "x"}
    result = {"trial_id": "t", "status": "ok", "metrics": {"m": {"value": None, "unit": "nats"}}}
    assert result_columns(result) == {"trial_id": "t", "status": "ok", "metrics.m.unit": "nats"}


def test_only_the_value_of_a_metric_is_in_its_column() -> None:
    assert metric_of(metric_column("test_nll")) == "test_nll"
    assert metric_column("test_nll", "n") == "metrics.test_nll.n"
    others = ("metrics.test_nll.n", "timing.train_s", "seed")
    assert [metric_of(name) for name in others] == [None, None, None]
