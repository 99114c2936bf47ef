from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fakes import fake_trial, run_fake, write_spec
from mlflow.tracking import MlflowClient

from harness.errors import RecordError
from harness.records import frame, mlflow_store
from harness.records import mlflow as tracking
from harness.records.folder import TrialFolder
from harness.records.mlflow_store import TrackingError, locked, make_database
from harness.specs.resources import Resources


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two finished trials, one of them resumed once, and one that diverged."""
    root = tmp_path_factory.mktemp("runs")
    cores, variables = os.sched_getaffinity(0), dict(os.environ)
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = "mlflow-artifacts:/"
    for seed, fail in enumerate((None, "memory", "diverge")):
        behaviour = {"fail": fail, "at": 12, "marks": str(root), "times": 1}
        os.environ["FAKE_BEHAVIOUR"] = json.dumps(behaviour)
        trial = fake_trial(seed=seed)
        write_spec(root, trial)
        for _ in range(2):
            run_fake(root, trial, may_retry=True)
    # An empty database, since MLflow is slow to make its tables.
    MlflowClient(tracking.tracking_uri(root)).search_experiments()
    yield root
    os.sched_setaffinity(0, cores)
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture
def root(records: Path, tmp_path: Path) -> Path:
    """A copy to write a mirror into."""
    shutil.copytree(records, tmp_path / "runs")
    return tmp_path / "runs"


def _query(root: Path, text: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(root / "mlflow.db")) as base:
        return base.execute(text).fetchall()


def test_the_mirror_gives_the_same_tables_and_nothing_twice(root: Path) -> None:
    assert tracking.sync(root) == 3
    assert tracking.sync(root) == 0
    ids = [path.name for path in sorted((root / "trials").iterdir())]
    pd.testing.assert_frame_equal(tracking.load(root), frame.load(root))
    pd.testing.assert_frame_equal(tracking.history(root, ids), frame.history(root, ids))
    one = ids[:1]
    pd.testing.assert_frame_equal(tracking.load(root, trial_ids=one), frame.load(root, one))
    pd.testing.assert_frame_equal(tracking.history(root, one), frame.history(root, one))
    assert len(frame.history(root, ids)) > 50
    assert sorted(_query(root, "select name, status from runs")) == [
        ("moons fake euler steps=4 none seed 0", "FINISHED"),
        ("moons fake euler steps=4 none seed 1", "FINISHED"),
        ("moons fake euler steps=4 none seed 2", "FAILED"),
    ]
    params = dict(_query(root, "select key, value from params where key like 'training.%'"))
    assert params["training.optimizer.lr"] == "0.02"


def test_no_path_of_the_machine_is_in_the_mirror(root: Path) -> None:
    (root / "mlflow.db").unlink()
    tracking.sync(root)
    content = (root / "mlflow.db").read_bytes()
    for path in (str(root), os.getcwd()):
        assert path.encode() not in content


KILLED = """
import os, signal, sys
from pathlib import Path
from mlflow.tracking import MlflowClient
from harness.records.mlflow import sync
left = int(sys.argv[2])
def dying(method):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **options)
    return call
for name in ("create_experiment", "create_run", "log_batch", "set_terminated", "set_tag"):
    setattr(MlflowClient, name, dying(getattr(MlflowClient, name)))
sync(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_an_exporter_killed_anywhere_is_completed_by_the_next(root: Path) -> None:
    # A record takes about six calls; these fall on different ones of different records.
    for calls in (0, 2, 5, 7):
        process = subprocess.run([sys.executable, "-c", KILLED, str(root), str(calls)])
        assert process.returncode == -signal.SIGKILL
    assert tracking.sync(root) > 0
    assert tracking.sync(root) == 0
    ids = [path.name for path in sorted((root / "trials").iterdir())]
    pd.testing.assert_frame_equal(tracking.load(root), frame.load(root))
    pd.testing.assert_frame_equal(tracking.history(root, ids), frame.history(root, ids))
    assert len(_query(root, "select run_uuid from runs")) == 3
    points = _query(root, "select count(*) from metrics where key = 'loss'")
    history = frame.history(root, ids)
    assert points == [(int((history["metric"] == "loss").sum()),)]


def test_a_record_that_was_replaced_leaves_the_mirror(root: Path) -> None:
    trial = fake_trial(seed=0)
    tracking.sync(root, trial_ids=[trial.id])
    TrialFolder(root, trial.id).set_aside(attempts=True)
    run_fake(root, trial)
    assert tracking.sync(root, trial_ids=[trial.id]) == 1
    stages = _query(root, "select lifecycle_stage from runs order by lifecycle_stage")
    assert stages == [("active",), ("deleted",)]
    result = TrialFolder(root, trial.id).read_result()
    assert result is not None
    assert list(tracking.load(root)["attempt_id"]) == [result["attempt_id"]]


def test_a_complete_mirror_is_seen_without_mlflow(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not mlflow_store.mirrored(root)
    tracking.sync(root)
    runs = mlflow_store.mirrored(root)
    assert runs is not None
    assert {trial_id for trial_id, _, _ in runs} == {p.name for p in (root / "trials").iterdir()}

    def connected(uri: str) -> Iterator[Any]:
        raise AssertionError("MLflow was asked")

    monkeypatch.setattr(tracking, "connected", connected)
    assert tracking.sync(root) == 0
    with closing(sqlite3.connect(root / "mlflow.db")) as base, base:
        base.execute("update tags set value = 'older' where key = 'synced'")
    with pytest.raises(AssertionError, match="MLflow was asked"):
        tracking.sync(root)
    with closing(sqlite3.connect(root / "mlflow.db")) as base, base:
        base.execute("drop table tags")
    assert mlflow_store.mirrored(root) is None


def test_a_suite_that_shares_a_trial_is_added(root: Path) -> None:
    trial = fake_trial(seed=0)
    assert tracking.sync(root, trial_ids=[trial.id]) == 1
    TrialFolder(root, trial.id).write_spec(trial, Resources(), "another")
    assert tracking.sync(root, trial_ids=[trial.id]) == 1
    assert _query(root, "select value from tags where key = 'suites'") == [("another,fakes",)]


def test_a_spec_with_damaged_suites_keeps_no_other_record_out(root: Path) -> None:
    first = sorted((root / "trials").iterdir())[0]
    spec = json.loads((first / "spec.json").read_text())
    (first / "spec.json").write_text(json.dumps({**spec, "suites": "x"}))
    with pytest.raises(RecordError, match="'suites' is not a list"):
        tracking.sync(root)
    exported = {
        trial_id for (trial_id,) in _query(root, "select value from tags where key = 'trial_id'")
    }
    assert exported == {path.name for path in (root / "trials").iterdir()} - {first.name}


def test_a_store_out_of_reach_is_one_error(root: Path) -> None:
    with pytest.raises(tracking.TrackingError, match="MLflow at "):
        tracking.sync(root, uri="http://127.0.0.1:9")


def test_importing_the_module_does_not_import_mlflow() -> None:
    code = "import sys, harness.records.mlflow; print({'mlflow', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_database_whose_making_is_cut_short_never_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / f".mlflow.db.{'0' * 32}").touch()
    monkeypatch.setattr(mlflow_store, "experiment_id", full)
    with pytest.raises(TrackingError, match="No space left"):
        make_database(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    make_database(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_file_system_without_locks_has_a_mirror_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path):
        pass
