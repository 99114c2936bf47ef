"""What MLflow's pages show of a run at once, and the report as an artifact."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from fakes import fake_trial, result_of, run_fake, write_spec
from mlflow.tracking import MlflowClient

from harness.records import frame
from harness.records import mlflow as tracking
from harness.records.columns import flatten
from harness.records.durations import spent_seconds
from harness.records.mlflow_report import ARTIFACTS, log_report

TRIAL = fake_trial()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The mirror of one trial."""
    root = tmp_path_factory.mktemp("runs")
    cores, variables = os.sched_getaffinity(0), dict(os.environ)
    write_spec(root, TRIAL)
    run_fake(root, TRIAL)
    tracking.sync(root)
    yield root
    os.sched_setaffinity(0, cores)
    os.environ.clear()
    os.environ.update(variables)


def test_results_counts_and_time_are_at_the_top(root: Path) -> None:
    (run,) = MlflowClient(tracking.tracking_uri(root)).search_runs(["1"])
    result = result_of(root, TRIAL)
    metrics = run.data.metrics
    assert metrics["test_nll"] == result["metrics"]["test_nll"]["value"]
    assert metrics["gaussian_nll"] == result["metrics"]["gaussian_nll"]["value"]
    assert metrics["nfe_test_forward"] == result["nfe"]["test"]["forward"]["mean"] == 8.0
    assert metrics["nfe_train_backward"] == result["nfe"]["train"]["backward"]["mean"] == 6.0
    assert metrics["wall_clock_s"] == pytest.approx(spent_seconds(flatten(result["timing"])))
    assert metrics["wall_clock_s"] >= result["timing"]["train_s"] > 0


def test_the_environment_and_the_folder_are_tags(root: Path) -> None:
    (run,) = MlflowClient(tracking.tracking_uri(root)).search_runs(["1"])
    environment = result_of(root, TRIAL)["environment"]
    for name in ("python", "cpu_model", "numerics_fingerprint"):
        assert run.data.tags[f"environment.{name}"] == environment[name]
    assert run.info.run_name == "moons fake euler none s0"
    assert f"trials/{TRIAL.id}/" in run.data.tags["mlflow.note.content"]
    assert str(root) not in run.data.tags["mlflow.note.content"]


def test_the_dataset_is_an_input_once(root: Path) -> None:
    client = MlflowClient(tracking.tracking_uri(root))
    with closing(sqlite3.connect(root / "mlflow.db")) as base:
        base.execute("delete from tags where key = 'synced'")
        base.commit()
    assert tracking.sync(root) == 1
    (run,) = client.search_runs(["1"])
    assert run.inputs is not None
    (found,) = run.inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("moons", TRIAL.dataset.digest)


def test_what_is_shown_is_no_part_of_what_is_read_back(root: Path) -> None:
    pd.testing.assert_frame_equal(tracking.load(root), frame.load(root))
    pd.testing.assert_frame_equal(
        tracking.history(root, [TRIAL.id]), frame.history(root, [TRIAL.id])
    )


def test_the_report_lies_where_a_server_looks_for_it(root: Path, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    client = MlflowClient(tracking.tracking_uri(root))
    for text in ("first", "second"):
        page.write_text(text)
        assert log_report(root, "toy", page)
    (run,) = client.search_runs(["1"], "tags.report_of = 'toy'")
    assert (run.info.run_name, run.info.status) == ("report toy", "FINISHED")
    scheme, _, place = str(run.info.artifact_uri).partition(":/")
    assert scheme == "mlflow-artifacts"
    assert (root / ARTIFACTS / place / "report" / "index.html").read_text() == "second"
    # It is no record.
    pd.testing.assert_frame_equal(tracking.load(root), frame.load(root))
    assert tracking.sync(root) == 0


def test_without_a_mirror_there_is_nothing_to_put_it_into(tmp_path: Path) -> None:
    assert not log_report(tmp_path, "toy", tmp_path / "index.html")
    assert not (tmp_path / "mlflow.db").exists()
