"""A process that a template forks does what a fresh one does, and ends as one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import environment, fake_trial, reached, result_of, timeless, write_spec

from harness.executors.attempts import run_attempt
from harness.executors.ending import Cause, Ended
from harness.executors.observer import Stop
from harness.executors.processes import Order, Processes
from harness.records.folder import TrialFolder
from harness.records.readers import read_environment
from harness.records.trained import TrainedFolder
from harness.trial import FixedSolver, Trial

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    _behave(monkeypatch, tmp_path)
    with closing(Processes()) as made:
        yield made


def _behave(monkeypatch: pytest.MonkeyPatch, folder: Path, **behaviour: object) -> None:
    for name, value in environment(folder / "site", **behaviour).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0")


def _order(root: Path, trial: Trial, attempt_id: str = "one", *, fresh: bool = False) -> Order:
    spec = write_spec(root, trial)
    return Order(str(spec), str(root), attempt_id, trial.backend, 1, fresh=fresh)


def _run(processes: Processes, order: Order) -> Ended:
    return run_attempt(processes, order, Stop())


def _templates(processes: Processes) -> list[int]:
    """Process ids of the templates that fork."""
    made = processes._templates.values()
    return [each._process.pid for each in made if not each.refuses and not each.ended]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_forked_process_computes_the_bits_of_a_fresh_one(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    # What compiles is not what is tested.
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    trial = replace(
        fake_trial(iterations=3, batch=8, validate_every=3, validation_rows=16),
        backend=backend,
        solver=FixedSolver("rk4_38", 2),
    )
    found, environments, models = [], [], []
    for fresh in (False, True):
        root = tmp_path / str(fresh)
        ended = _run(processes, _order(root, trial, fresh=fresh))
        found.append(timeless(result_of(root, trial)))
        assert found[-1]["status"] == "ok", ended
        environments.append(read_environment(TrialFolder(root, trial.id).attempt("one")) or {})
        models.append(TrainedFolder(root, trial.training_id).model("one").read_bytes())
    assert len(_templates(processes)) == 1
    assert found[0] == found[1]
    assert models[0] == models[1]
    assert environments[0] == environments[1]


def test_trials_share_a_template_and_nothing_else(tmp_path: Path, processes: Processes) -> None:
    trials = [fake_trial(seed=seed) for seed in (0, 1)]
    for trial in trials:
        _run(processes, _order(tmp_path / "forked", trial))
    assert len(_templates(processes)) == 1
    _run(processes, _order(tmp_path / "fresh", trials[1], fresh=True))
    found = [result_of(tmp_path / place, trials[1]) for place in ("forked", "fresh")]
    assert timeless(found[0]) == timeless(found[1])


@pytest.mark.parametrize("preload", ["thread", "raise"])
def test_a_template_that_cannot_fork_is_done_without(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch, preload: str
) -> None:
    _behave(monkeypatch, tmp_path, preload=preload)
    for seed in (0, 1):
        trial = fake_trial(seed=seed)
        _run(processes, _order(tmp_path / "runs", trial))
        assert result_of(tmp_path / "runs", trial)["status"] == "ok"
        assert not _templates(processes)


class _At(Stop):
    """Asks to stop as soon as a trial has come so far; calls `act` then."""

    def __init__(self, root: Path, trial: Trial, act: Any) -> None:  # noqa: ANN401
        super().__init__()
        self._place, self._act = (root, trial), act

    @property
    def requested(self) -> bool:
        if self._act is not None and reached(*self._place) >= 10:
            act, self._act = self._act, None
            act()
        return super().requested


def test_a_request_to_stop_reaches_the_child(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    _behave(monkeypatch, tmp_path, sleep_s=0.05)
    trial, root = fake_trial(iterations=100), tmp_path / "runs"
    stop: _At = _At(root, trial, lambda: stop.request())
    assert run_attempt(processes, _order(root, trial), stop).cause is Cause.ASKED
    assert TrialFolder(root, trial.id).read_result() is None
    _behave(monkeypatch, tmp_path)
    _run(processes, _order(root, trial, "two", fresh=True))
    found = result_of(root, trial)
    assert found["environment"]["resumed"] == "bitwise"
    assert found["timing"]["lost_s"] < 1.0


def test_a_template_that_is_killed_takes_its_child_along(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    _behave(monkeypatch, tmp_path, sleep_s=0.02)
    trial, root = fake_trial(iterations=100), tmp_path / "runs"
    stop = _At(root, trial, lambda: os.kill(_templates(processes)[0], signal.SIGKILL))
    assert run_attempt(processes, _order(root, trial), stop) == Ended(Cause.DIED, "SIGKILL")
    assert _run(processes, _order(root, trial, "two"))
    assert len(_templates(processes)) == 1
    assert result_of(root, trial)["environment"]["resumed"] == "bitwise"


EXECUTOR = """
import json, sys
from harness.executors.attempts import run_attempt
from harness.executors.observer import Stop
from harness.executors.processes import Order, Processes
run_attempt(Processes(), Order(**json.loads(sys.argv[1])), Stop())
"""


@pytest.mark.parametrize("abrupt", [False, True])
def test_nothing_outlives_an_executor_that_is_killed(tmp_path: Path, abrupt: bool) -> None:
    """A trial saves first, unless it is abrupt: that one ends even if it hears nothing."""
    trial, root = fake_trial(iterations=300), tmp_path / "runs"
    order = replace(_order(root, trial), abrupt=abrupt)
    behaviour = {"fail": "hang", "at": 12, "marks": str(tmp_path)} if abrupt else {}
    env = environment(tmp_path / "site", sleep_s=0.05, **behaviour)
    env["HARNESS_CHECKPOINT_SECONDS"] = "60"
    mark = f"MARK={tempfile.gettempdir()}/{tmp_path.name}-{os.getpid()}"
    env |= dict([mark.split("=", 1)])
    executor = subprocess.Popen(
        [sys.executable, "-c", EXECUTOR, json.dumps(order.__dict__)], env=env
    )
    _until(lambda: reached(root, trial) >= 10)
    _until(lambda: not abrupt or (tmp_path / "0-0").exists())
    assert len(_marked(mark)) == 3
    executor.kill()
    executor.wait()
    began = time.monotonic()
    _until(lambda: not _marked(mark))
    if abrupt:
        assert time.monotonic() - began < 8.0
    else:
        assert list(TrialFolder(root, trial.id).attempt("one").glob("checkpoint/[!.]*"))


def _until(condition: Any) -> None:  # noqa: ANN401
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _marked(mark: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found
