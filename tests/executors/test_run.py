from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from fakes import environment, fake_trial, result_of, run_plan, timeless, write_spec

from harness.errors import InputError, RecordError
from harness.executors.run import Execution, run
from harness.planning.plan import Plan
from harness.records.folder import TrialFolder

# Nobody listens there; runs that are not about the mirror go without one.
NO_MIRROR = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


def _run(root: Path, env: dict[str, str], *options: str) -> tuple[int, str]:
    process = run_plan(root, env, "--executor", "inline", *options)
    output = process.communicate(timeout=120)[0].decode()
    return process.returncode, output


def test_one_trial_in_this_process_is_recorded_and_mirrored(tmp_path: Path) -> None:
    root, trial = tmp_path / "runs", fake_trial()
    write_spec(root, trial)
    code, output = _run(root, environment(tmp_path / "site"))
    assert code == 0, output
    assert re.search(rf"1/1  ok in 0:\d\d: moons fake euler none s0, .*\({trial.id}\)", output)
    with closing(sqlite3.connect(root / "mlflow.db")) as base:
        assert base.execute("select status from runs").fetchall() == [("FINISHED",)]


def test_a_mirror_out_of_reach_costs_a_line(tmp_path: Path) -> None:
    root, trial = tmp_path / "runs", fake_trial()
    write_spec(root, trial)
    code, output = _run(root, environment(tmp_path / "site") | NO_MIRROR)
    assert code == 0, output
    assert "not exported: MLflow at http://127.0.0.1:9" in output
    assert "Traceback" not in output


def test_a_failure_is_exit_code_1_now_and_later(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    trials = [fake_trial(seed=seed) for seed in (0, 1)]
    for trial in trials:
        write_spec(root, trial)
    seeds = {"1": {"fail": "diverge", "at": 5}}
    env = environment(tmp_path / "site", seeds=seeds, marks=str(tmp_path)) | NO_MIRROR
    code, output = _run(root, env)
    assert code == 1, output
    assert re.search(r"diverged in 0:\d\d: moons fake euler none s1", output)
    assert _run(root, env)[0] == 1
    assert result_of(root, trials[1])["attempts"] == 1


def test_a_rerun_starts_anew_but_goes_on_after_a_time_limit(tmp_path: Path) -> None:
    root, trial = tmp_path / "runs", fake_trial(iterations=400)
    slow = environment(tmp_path / "site", sleep_s=0.02) | NO_MIRROR
    fast = environment(tmp_path / "site") | NO_MIRROR
    write_spec(root, trial, minutes=0.05)
    code, output = _run(root, slow)
    assert code == 1, output
    assert result_of(root, trial)["status"] == "timeout"
    write_spec(root, trial, minutes=5.0)
    assert _run(root, fast, "--rerun")[0] == 0
    resumed = result_of(root, trial)
    assert resumed["attempts"] == 2
    assert resumed["environment"]["resumed"] == "bitwise"
    assert _run(root, fast, "--rerun")[0] == 0
    anew = result_of(root, trial)
    assert anew["attempts"] == 1
    assert "resumed" not in anew["environment"]
    assert timeless(anew) == timeless(resumed)
    replaced = [old["status"] for old in TrialFolder(root, trial.id).replaced()]
    assert replaced == ["timeout", "ok"]


def test_a_plan_with_nothing_to_run_is_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NO_MIRROR.items():
        monkeypatch.setenv(name, value)
    assert run(Plan("empty", "", ()), tmp_path, Execution())


def test_options_that_do_not_fit_are_input_errors(tmp_path: Path) -> None:
    plan = Plan("empty", "", ())
    with pytest.raises(InputError, match="unknown executor 'rya'") as caught:
        run(plan, tmp_path, Execution("rya"))
    assert "did you mean 'ray'" in str(caught.value)
    with pytest.raises(InputError, match="--address: the inline executor joins no cluster"):
        run(plan, tmp_path, Execution("inline", "here:1"))


def test_a_root_that_cannot_be_written_is_a_record_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match=r"cannot be used \(Not a directory\)"):
        run(Plan("empty", "", ()), tmp_path / "file" / "runs", Execution())
