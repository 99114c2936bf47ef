from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import (
    environment,
    fake_trial,
    reached,
    result_of,
    run_fake,
    run_process,
    timeless,
    until,
    write_spec,
)

from harness.executors import retries
from harness.executors.inline import run_inline
from harness.executors.observer import Stop
from harness.planning.plan import PlannedTrial
from harness.process.cores import Lease
from harness.records.folder import TrialFolder
from harness.records.readers import read_lines
from harness.records.status import Status
from harness.specs.resources import Resources
from harness.trial import Trial


class _Notes:
    """Remembers what became of the trials."""

    def __init__(self) -> None:
        self.attempts: list[Path] = []
        self.statuses: dict[str, Status] = {}
        self.notes: list[str] = []

    def submitted(self, planned: PlannedTrial, attempt: Path) -> None:
        self.attempts.append(attempt)

    def ended(self, planned: PlannedTrial, status: Status) -> None:
        self.statuses[planned.trial.id] = status

    def stopped(self, planned: PlannedTrial) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def refresh(self) -> None:
        pass


def _run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    trials: list[Trial],
    minutes: float = 5.0,
    **behaviour: object,
) -> _Notes:
    for name, value in environment(tmp_path / "site", marks=str(tmp_path), **behaviour).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr(retries, "GRACE_S", 1.0)
    planned = []
    for trial in trials:
        write_spec(tmp_path / "runs", trial, minutes)
        planned.append(PlannedTrial(trial, "to_run", None, Resources(timeout_minutes=minutes)))
    notes = _Notes()
    with Stop() as stop:
        run_inline(planned, tmp_path / "runs", notes, stop)
    return notes


def test_crashes_memory_and_exceptions_by_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = (
        ("kill", 2, Status.OK, 3),
        ("kill", 9, Status.KILLED, 4),
        ("memory", 1, Status.OK, 2),
        ("memory", 9, Status.OUT_OF_MEMORY, 2),
        ("raise", 9, Status.ERROR, 1),
        ("exit", 9, Status.ERROR, 1),
        ("stop", 1, Status.OK, 2),
    )
    trials = [fake_trial(seed=seed) for seed in range(len(expected))]
    seeds = {
        str(k): {"fail": fail, "times": times} for k, (fail, times, *_) in enumerate(expected)
    }
    notes = _run(monkeypatch, tmp_path, trials, at=12, seeds=seeds)
    for trial, (fail, _, status, attempts) in zip(trials, expected, strict=True):
        found = result_of(tmp_path / "runs", trial)
        assert (found["status"], found["attempts"]) == (status.value, attempts), fail
        assert notes.statuses[trial.id] is status
    assert "SIGKILL" in result_of(tmp_path / "runs", trials[1])["message"]
    assert result_of(tmp_path / "runs", trials[0])["environment"]["resumed"] == "bitwise"
    assert result_of(tmp_path / "runs", trials[2])["timing"]["lost_s"] >= 0.0


def test_a_hanging_trial_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [fake_trial(), fake_trial(seed=1)]
    seeds = {"0": {"fail": "hang", "at": 12}}
    notes = _run(monkeypatch, tmp_path, trials, minutes=0.05, seeds=seeds)
    assert notes.statuses == {trials[0].id: Status.TIMEOUT, trials[1].id: Status.OK}
    result = result_of(tmp_path / "runs", trials[0])
    assert result["message"] == "killed: it hung beyond its 0.05 minutes"
    assert result["environment"]["cores"] == 1


def test_sigkill_of_the_group_three_times_changes_no_number(tmp_path: Path) -> None:
    trial = fake_trial(iterations=120, validate_every=25)
    calm = write_spec(tmp_path / "calm", trial)
    process = run_process(calm, environment(tmp_path / "site"))
    process.communicate(timeout=60)
    assert process.returncode == 0
    spec = write_spec(tmp_path / "runs", trial)
    env = environment(tmp_path / "site", sleep_s=0.03) | {"HARNESS_CHECKPOINT_SECONDS": "0.2"}
    for step in (20, 50, 90):
        process = run_process(spec, env)
        until(lambda step=step: reached(tmp_path / "runs", trial) >= step, process)  # type: ignore[misc]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = run_process(spec, environment(tmp_path / "site"))
    process.communicate(timeout=60)
    assert process.returncode == 0
    folder = TrialFolder(tmp_path / "runs", trial.id)
    result = result_of(tmp_path / "runs", trial)
    assert timeless(result) == timeless(result_of(tmp_path / "calm", trial))
    assert result["attempts"] == 4
    assert result["timing"]["lost_s"] > 0
    assert result["environment"]["resumed"] == "bitwise"
    # The last attempt's lines are those of an undisturbed run, but for the clock.
    lines = [
        {
            (line["step"], name): value
            for line in read_lines(place / "metrics.jsonl")
            if line["step"] % 10 == 0 or "val_nll" in line
            for name, value in line.items()
            if name in ("loss", "val_nll")
        }
        for place in (folder.attempt(result["attempt_id"]), *_attempts(tmp_path / "calm", trial))
    ]
    assert lines[0] == lines[1]


def _attempts(root: Path, trial: Trial) -> list[Path]:
    return TrialFolder(root, trial.id).attempts()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_request_to_stop_loses_nothing(tmp_path: Path, number: signal.Signals) -> None:
    trial = fake_trial(iterations=120)
    spec = write_spec(tmp_path / "runs", trial)
    process = run_process(spec, environment(tmp_path / "site", sleep_s=0.05))
    until(lambda: reached(tmp_path / "runs", trial) >= 10, process)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert TrialFolder(tmp_path / "runs", trial.id).read_result() is None
    done = run_process(spec, environment(tmp_path / "site"))
    output, _ = done.communicate(timeout=60)
    assert done.returncode == 0, output
    result = result_of(tmp_path / "runs", trial)
    assert result["timing"]["lost_s"] < 0.5
    assert result["attempts"] == 2


def test_a_request_to_stop_while_it_waits_for_cores_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def waiting(*_: object, **__: object) -> Iterator[Lease]:
        signal.raise_signal(signal.SIGTERM)
        yield Lease((0,), False, tmp_path / "slot-0", tmp_path)

    monkeypatch.setattr("harness.training.run_trial.lease", waiting)
    monkeypatch.setattr("harness.training.run_trial.pin", lambda *_: None)
    trial = fake_trial()
    write_spec(tmp_path / "runs", trial)
    with pytest.raises(KeyboardInterrupt):
        run_fake(tmp_path / "runs", trial)
    assert TrialFolder(tmp_path / "runs", trial.id).read_result() is None


def test_sys_exit_in_a_trial_is_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behaviour = {"fail": "exit", "at": 12, "marks": str(tmp_path)}
    monkeypatch.setenv("FAKE_BEHAVIOUR", json.dumps(behaviour))
    monkeypatch.setattr("harness.training.run_trial.pin", lambda *_: None)
    trial = fake_trial()
    write_spec(tmp_path / "runs", trial)
    assert run_fake(tmp_path / "runs", trial) is Status.ERROR
    message = result_of(tmp_path / "runs", trial)["message"]
    assert message.startswith("something called sys.exit(3) (log: trials/")


PARENT = """
import os, subprocess, sys
command = [sys.executable, "-m", "harness.training", sys.argv[1], "--quiet"]
child = subprocess.Popen([*command, "--parent", str(os.getpid())], process_group=0)
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.slow
def test_a_trial_that_hears_nothing_does_not_outlive_its_parent(tmp_path: Path) -> None:
    trial = fake_trial()
    spec = write_spec(tmp_path / "runs", trial)
    env = environment(tmp_path / "site", fail="hang", at=12, marks=str(tmp_path))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(spec)], env=env, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    until(lambda: (tmp_path / "0-0").exists(), parent)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


def test_a_worker_imports_neither_ray_nor_mlflow_nor_pydantic(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, fake_trial(iterations=5))
    code = (
        "import sys; from harness.training.__main__ import main;"
        " code = main([sys.argv[1], '--quiet']);"
        "heavy = {'ray', 'mlflow', 'pydantic', 'pandas', 'rich', 'typer', 'sklearn', 'ruamel',"
        " 'torch', 'jax', 'scipy'};"
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(spec)],
        env=environment(tmp_path / "site"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0 []\n"


def test_unusable_spec_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"trial": 1}))
    process = run_process(path, environment(tmp_path / "site"))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert output.decode().startswith(f"{path}: not a spec of this version")
    assert b"Traceback" not in output
