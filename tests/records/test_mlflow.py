from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fakes import fake_trial, result_json, run_fake, write_spec
from mlflow.tracking import MlflowClient

from harness.errors import RecordError
from harness.records import frame, mlflow_database, mlflow_store
from harness.records import mlflow as tracking
from harness.records.folder import TrialFolder
from harness.records.mlflow_address import database_of, sentence, shown
from harness.records.mlflow_database import (
    TrackingError,
    locked,
    make_database,
    sqlite_uri,
    tracking_uri,
)
from harness.records.mlflow_store import make_tables
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
        ("moons fake euler none s0", "FINISHED"),
        ("moons fake euler none s1", "FINISHED"),
        ("moons fake euler none s2", "FAILED"),
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
    assert not mlflow_database.mirrored(root)
    tracking.sync(root)
    runs = mlflow_database.mirrored(root)
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
    assert mlflow_database.mirrored(root) is None


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


def test_a_database_whose_making_is_cut_short_never_gets_its_name(tmp_path: Path) -> None:
    def full(_: object) -> None:
        raise TrackingError("No space left on device")

    uri = sqlite_uri(tmp_path / "mlflow.db")
    (tmp_path / f".mlflow.db.{'0' * 32}").touch()
    with pytest.raises(TrackingError, match="No space left"):
        make_database(tmp_path, uri, full)
    assert list(tmp_path.iterdir()) == []
    make_database(tmp_path, uri, make_tables)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_file_system_without_locks_has_a_mirror_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path, tracking_uri(tmp_path)):
        pass


@pytest.mark.parametrize("damage", ["no database", "half made"])
def test_an_unusable_mirror_is_set_aside_and_made_anew(root: Path, damage: str) -> None:
    database = root / "mlflow.db"
    if damage == "no database":
        database.write_bytes(b"something else" * 100)
    else:
        with closing(sqlite3.connect(database)) as base:
            base.execute("drop table runs")
            base.commit()
    said: list[str] = []
    one = sorted(path.name for path in (root / "trials").iterdir())[0]
    # The new one has all records, not only those that were asked for.
    assert tracking.sync(root, trial_ids=[one], say=said.append) == 3
    old = next(root.glob("mlflow.db.unusable-*"))
    assert len(said) == 1
    assert "made anew" in said[0]
    assert old.name in said[0]
    pd.testing.assert_frame_equal(tracking.load(root), frame.load(root))


def test_a_root_of_any_name_holds_its_own_mirror(tmp_path: Path) -> None:
    for name in ("a?b", "100%25", "a#b", "a b", "100%"):
        root = tmp_path / name
        assert database_of(tracking_uri(root)) == root / "mlflow.db"
    (tmp_path / "a?b%").mkdir()
    make_database(tmp_path / "a?b%", tracking_uri(tmp_path / "a?b%"), make_tables)
    assert [path.name for path in tmp_path.iterdir()] == ["a?b%"]
    assert [path.name for path in (tmp_path / "a?b%").iterdir()] == ["mlflow.db"]


def test_a_lock_that_is_held_is_waited_for_only_so_long(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_database, "PATIENCE_S", 0.3)
    monkeypatch.setattr(mlflow_database, "_BEAT_S", 0.0)
    with (root / ".mlflow.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TrackingError, match=r"another export to .* has not ended"):
            tracking.sync(root)
    with closing(sqlite3.connect(root / "mlflow.db", isolation_level=None)) as base:
        base.execute("begin exclusive")
        with pytest.raises(TrackingError, match=r"mlflow.db: .*locked.* harness sync"):
            tracking.sync(root)
    assert not list(root.glob("*unusable*"))


def test_a_mute_server_is_waited_for_only_so_long(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_store, "PATIENCE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(TrackingError, match=r"has not answered for 0\.3 s"):
            tracking.sync(root, uri=f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "uri",
    [
        "http://someone:hunter2@127.0.0.1:1",
        "http://hunter2@127.0.0.1:1",
        "http://127.0.0.1:1/?token=hunter2",
        "http://127.0.0.1:1/#hunter2",
        "http://127.0.0.1:1/path;token=hunter2",
        "postgresql://someone:hunter2@127.0.0.1:1/db",
        "sqlite:///nowhere/db?password=hunter2",
        "http://someone:hunter2@[bad",
        "http://some:one:hunter2@host:port/",
    ],
)
def test_no_message_shows_a_password(uri: str) -> None:
    assert "hunter2" not in shown(uri)
    said = f"cannot reach {uri}: url /?token=hunter2 of hunter2 refused"
    if "hunter2" in uri:
        assert "hunter2" not in sentence(said, uri)
        assert "refused" in sentence(said, uri)


def test_texts_of_any_length_and_many_params_come_back(tmp_path: Path) -> None:
    trial = fake_trial()
    trial = replace(trial, model=replace(trial.model, hidden=tuple(range(1, 131))))
    write_spec(tmp_path, trial)
    content = result_json(trial.id, status="error", message="long " * 6000)
    TrialFolder(tmp_path, trial.id).commit_result(content)
    tracking.sync(tmp_path)
    loaded = tracking.load(tmp_path)
    assert list(loaded["message"]) == ["long " * 6000]
    pd.testing.assert_frame_equal(loaded, frame.load(tmp_path))


def test_an_experiment_that_somebody_deleted_is_restored(root: Path) -> None:
    tracking.sync(root)
    client = MlflowClient(tracking.tracking_uri(root))
    experiment = client.get_experiment_by_name("cnf-harness")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    tracking.sync(root)
    pd.testing.assert_frame_equal(tracking.load(root), frame.load(root))


def test_a_mirror_that_cannot_be_written_is_read(root: Path) -> None:
    tracking.sync(root)
    with closing(sqlite3.connect(root / "mlflow.db", isolation_level=None)) as base:
        # Whoever writes keeps nobody from reading.
        base.execute("begin immediate")
        pd.testing.assert_frame_equal(tracking.load(root), frame.load(root))


def test_reading_makes_no_mirror(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="there is no mirror; run: harness sync"):
        tracking.load(tmp_path)
    assert list(tmp_path.iterdir()) == []
