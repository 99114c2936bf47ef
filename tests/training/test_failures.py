from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, result_of, run_fake, write_spec

from harness.records.folder import TrialFolder
from harness.records.merge import merge
from harness.records.status import Status
from harness.specs.resources import Resources
from harness.training.checkpoint import Checkpoint
from harness.training.lines import Cadence
from harness.training.run_trial import RunOptions, run_trial
from harness.trial import Trial

pytestmark = pytest.mark.usefixtures("process_unchanged")


def _attempt(root: Path, trial: Trial) -> Path:
    return TrialFolder(root, trial.id).attempt(result_of(root, trial)["attempt_id"])


def _failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fail: str, at: int = 12) -> None:
    behaviour = {"fail": fail, "at": at, "marks": str(tmp_path), "times": 1}
    monkeypatch.setenv("FAKE_BEHAVIOUR", json.dumps(behaviour))


def test_divergence_is_a_result_with_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, tmp_path, "diverge")
    trial = fake_trial()
    assert run_fake(tmp_path, trial) is Status.DIVERGED
    result = result_of(tmp_path, trial)
    assert result["message"] == "training failed at step 13: non-finite"
    assert result["metrics"] == {}
    assert result["nfe"]["train"]["forward"]["n"] == 13
    assert run_fake(tmp_path, trial) is Status.DIVERGED
    assert len(TrialFolder(tmp_path, trial.id).attempts()) == 1


def test_an_exception_becomes_an_error_without_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, tmp_path, "raise")
    trial = fake_trial()
    assert run_fake(tmp_path, trial, capture=True) is Status.ERROR
    result = result_of(tmp_path, trial)
    assert result["message"].startswith("RuntimeError: no such file ~/secret (log: trials/")
    log = (_attempt(tmp_path, trial) / "log.txt").read_text()
    assert "Traceback" in log
    assert result["timing"]["first_step_s"] > 0.0
    assert result["timing"]["build_s"] >= 0.0
    assert result["environment"]["gradient"] == "adjoint"
    assert result["memory"]["peak_host_bytes"] > 1e7
    home = str(Path.home())
    assert home == "/" or home not in log


def test_memory_that_ran_out_is_committed_only_when_it_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, tmp_path, "memory")
    trial = fake_trial()
    assert run_fake(tmp_path, trial, may_retry=True) is Status.OUT_OF_MEMORY
    folder = TrialFolder(tmp_path, trial.id)
    assert folder.read_result() is None
    assert run_fake(tmp_path, trial) is Status.OK
    assert result_of(tmp_path, trial)["attempts"] == 2


def test_a_time_limit_leaves_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = fake_trial(iterations=100_000)
    status = run_trial(
        trial, tmp_path, Resources(timeout_minutes=0.01), RunOptions(backend=FakeBackend())
    )
    assert status is Status.TIMEOUT
    assert result_of(tmp_path, trial)["message"] == "stopped after 0.01 minutes"
    found = Checkpoint.read(_attempt(tmp_path, trial))
    assert found is not None
    assert found.totals.step > 0


def test_resume_under_another_fingerprint_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, tmp_path, "memory")
    trial = fake_trial()
    run_fake(tmp_path, trial, may_retry=True, cadence=Cadence(checkpoint_s=0.0))
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    assert run_fake(tmp_path, trial) is Status.OK
    assert result_of(tmp_path, trial)["environment"]["resumed"] == "not bitwise"


def test_a_root_that_was_moved_to_another_machine_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy elsewhere, under another fingerprint: it goes on from the checkpoint and says so."""
    here, there = tmp_path / "here", tmp_path / "there" / "runs"
    _failing(monkeypatch, tmp_path, "memory")
    trial = fake_trial()
    write_spec(here, trial)
    run_fake(here, trial, may_retry=True, cadence=Cadence(checkpoint_s=0.0))
    merge([here], there)
    shutil.rmtree(here)
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    assert run_fake(there, trial) is Status.OK
    result = result_of(there, trial)
    assert result["environment"]["resumed"] == "not bitwise"
    assert result["attempts"] == 2
    assert result["metrics"]["steps"]["value"] == trial.training.iterations
    assert not here.exists()


def test_digest_of_other_data_is_an_error(tmp_path: Path) -> None:
    trial = fake_trial()
    other = replace(trial, dataset=replace(trial.dataset, digest="sha256:0"))
    assert run_fake(tmp_path, other) is Status.ERROR
    result = result_of(tmp_path, other)
    assert "no longer the one" in result["message"]
    # What was known by then is recorded.
    assert result["environment"]["cores"] == 1
    assert result["timing"]["import_s"] >= 0.0
    assert result["timing"]["data_s"] is None
    assert result["timing"]["mode"] == "shared"
    assert result["nfe"] == {"test": None, "sample": None}
