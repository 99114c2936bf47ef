"""Trials of the fake backend, in this process and in others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_backend import FakeBackend

from harness.datasets.registry import declare
from harness.process.watch import read_progress
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.specs.resources import Resources
from harness.training.run_trial import RunOptions, run_trial
from harness.trial import DatasetRef, Evaluation, FixedSolver, Optimizer, Training, Trial

__all__ = [
    "environment",
    "fake_trial",
    "reached",
    "result_of",
    "run_fake",
    "run_plan",
    "run_process",
    "timeless",
    "until",
    "write_spec",
]

HERE = Path(__file__).parent


def fake_trial(dataset: str = "moons", seed: int = 0, **training: object) -> Trial:
    settings: dict[str, Any] = {
        "iterations": 40,
        "batch": 16,
        "validate_every": 10,
        "validation_rows": 64,
        "optimizer": Optimizer(lr=0.02),
    }
    return Trial(
        dataset=DatasetRef(dataset, declare(dataset).digest),
        backend="fake",
        solver=FixedSolver("euler", 4),
        training=Training(**(settings | training)),
        evaluation=Evaluation(rows=100, batch=64, samples=10),
        seed=seed,
    )


def environment(folder: Path, **behaviour: object) -> dict[str, str]:
    """Environment of a process in which the fake backend is registered."""
    info = folder / "fake_backend-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-backend\nVersion: 1.0\n")
    points = "[harness.backends]\nfake = fake_backend:FakeBackend\n"
    points += "twin = fake_backend:TwinBackend\n"
    (info / "entry_points.txt").write_text(points)
    paths = [str(HERE), str(folder), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "FAKE_BEHAVIOUR": json.dumps(behaviour),
    }


def write_spec(root: Path, trial: Trial, minutes: float = 5.0, gpus: float = 0.0) -> Path:
    folder = TrialFolder(root, trial.id)
    folder.write_spec(trial, Resources(1, gpus, minutes), "fakes")
    return folder.spec


def reached(root: Path, trial: Trial) -> int:
    """Last step that any attempt of a trial has published."""
    found = [read_progress(attempt) for attempt in TrialFolder(root, trial.id).attempts()]
    return max((progress.step for progress in found if progress), default=0)


def until(
    condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 60.0
) -> None:
    """Waits until a process has come so far; fails the test if it ends or takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(process.communicate()[0].decode())
        time.sleep(0.02)


def run_process(spec: Path, env: dict[str, str], *options: str) -> subprocess.Popen[bytes]:
    """Starts `python -m harness.training` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.training", str(spec), *options],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )


def run_plan(root: Path, env: dict[str, str], *options: str) -> subprocess.Popen[bytes]:
    """Runs all trials whose specs lie under a root, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, str(HERE / "run_plan.py"), str(root), *options],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )


def run_fake(root: Path, trial: Trial, **options: Any) -> Status:  # noqa: ANN401
    """Runs a trial in this process; `options` are fields of `RunOptions`."""
    return run_trial(trial, root, Resources(), RunOptions(backend=FakeBackend(), **options))


def result_json(trial_id: str, **content: Any) -> dict[str, Any]:  # noqa: ANN401
    """What a result.json holds at the least, and `content`."""
    head = {"schema_version": 1, "trial_id": trial_id, "status": "ok", "message": None}
    return {**head, "attempts": 1, "attempt_id": "0123456789ab", "finished_ms": 1, **content}


def result_of(root: Path, trial: Trial) -> dict[str, Any]:
    """The committed result of a trial."""
    result = TrialFolder(root, trial.id).read_result()
    assert result is not None
    return result


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    """What of a record must not depend on when, where and how often it was computed."""
    return {"status": result["status"], "metrics": result["metrics"], "nfe": result["nfe"]}
