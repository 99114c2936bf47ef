"""The worker's process: pinned before numpy, and real backends answer it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import environment, fake_trial, run_process

from harness.planning.plan import Plan, PlannedTrial, Timing
from harness.planning.settings import settings_of
from harness.records.folder import TrialFolder
from harness.records.timings import ACTIVITIES, POINTS, TimingFolder
from harness.specs.resources import Resources
from harness.timing.stage import run_timings
from harness.timing.states import hardware_of
from harness.trial import Evaluation, FixedSolver, ModelSpec

HEAVY = {"jax", "mlflow", "numpy", "pandas", "pydantic", "ray", "safetensors", "scipy", "torch"}

STOPPED_AT_PINNING = """
import json, runpy, sys
from harness.process import cores

def stop(*arguments):
    print(json.dumps(list(sys.modules)))
    raise SystemExit(7)

cores.pin = stop
runpy.run_module("harness.timing.worker", run_name="__main__", alter_sys=True)
"""


def test_nothing_heavy_is_imported_before_the_cores_are_pinned(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_AT_PINNING, str(tmp_path), "a trial", "--cores", "0"],
        env=environment(tmp_path / "site"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    assert not HEAVY & set(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.timeout(1500)  # four processes of each framework, on a machine that may be busy
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "jax"))), reason="needs both frameworks"
)
def test_torch_and_jax_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = tmp_path / "runs"
    usual = replace(
        fake_trial(iterations=3),
        solver=FixedSolver("rk4_38", 4),
        model=ModelSpec(hidden=(8,)),
        evaluation=Evaluation(rows=64, batch=64, samples=10),
        gradient="auto",
    )
    trials = [replace(usual, backend=name) for name in ("torch", "jax")]
    for trial in trials:
        folder = TrialFolder(root, trial.id)
        folder.write_spec(trial, Resources(), "real")
        process = run_process(folder.spec, environment(tmp_path / "site"))
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
    planned = tuple(PlannedTrial(trial, "finished", None, Resources()) for trial in trials)
    plan = Plan("real", "", planned, timing=Timing(6, 1.0))
    said_of: list[str] = []
    assert run_timings(plan, root, said_of.append)
    (setting,) = settings_of(plan)
    record = TimingFolder(root, setting.id, hardware_of(setting) or "").read()
    assert record is not None
    assert (record.status, record.message) == ("ok", None)
    torch, jax = record.backends["torch"], record.backends["jax"]
    # `auto` resolves by backend, and the record says to what.
    assert (torch.gradient, jax.gradient) == ("direct", "checkpoint")
    for point in POINTS:
        assert len(record.of(point)[0]) == 6
        for activity in ACTIVITIES:
            assert record.ratio(point, activity, "jax", "torch") is not None
        # The same arrays, batches and noise: the same solves.
        forward = [each.nfe[point]["train_step"]["forward"] for each in (torch, jax)]
        assert forward[0] == forward[1]
        for backend in (torch, jax):
            error = backend.error_nats[point]
            assert error is not None
            # Rounding, and what four steps leave out.
            assert 0 < error < 1e-2
    assert torch.nfe["initial"]["train_step"]["recompute"] == 0
    assert jax.nfe["initial"]["train_step"]["recompute"] > 0
