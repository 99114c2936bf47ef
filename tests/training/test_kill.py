"""SIGKILL of the process group in mid-training, three times, in both real backends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from fakes import reached, result_of, run_process, timeless, until

from harness.backends import get_backend, missing_distribution
from harness.datasets.registry import declare
from harness.records.folder import TrialFolder
from harness.records.readers import read_lines
from harness.specs.resources import Resources
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    Evaluation,
    ModelSpec,
    Patience,
    Schedule,
    Training,
    Trial,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


# Some seconds of training each.
ITERATIONS = {"torch": 120, "jax": 1500}


def _trial(backend: str) -> Trial:
    return Trial(
        dataset=DatasetRef("moons", declare("moons").digest),
        backend=backend,
        # Steps, rates and the gradient mode all depend on what came before the kill.
        solver=AdaptiveSolver("dopri5", rtol=1e-3, atol=1e-3, first_step="warm"),
        model=ModelSpec(hidden=(16, 16)),
        regularizer={"rnode.kinetic": 0.01},
        training=Training(
            iterations=ITERATIONS[backend],
            batch=64,
            schedule=Schedule(warmup=50),
            patience=Patience(drops=(1, 2)),
            validate_every=30,
            validation_rows=100,
        ),
        gradient="auto",
        evaluation=Evaluation(rows=200, batch=100, samples=20),
    )


def _curves(attempt: Path) -> dict[tuple[int, str], float]:
    """Losses and validations at the steps that every run logs."""
    return {
        (line["step"], name): line[name]
        for line in read_lines(attempt / "metrics.jsonl")
        for name in ("loss", "val_nll")
        if name in line and line["step"] % 10 == 0
    }


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_killed_three_times_the_numbers_are_those_of_an_undisturbed_run(
    tmp_path: Path, backend: str
) -> None:
    missing = missing_distribution(get_backend(backend))
    if missing:
        pytest.skip(f"{missing} is not installed")
    trial = _trial(backend)
    for name in ("calm", "killed"):
        folder = TrialFolder(tmp_path / name, trial.id)
        folder.write_spec(trial, Resources(1, 0.0, 5.0))
    env = {**os.environ, "HARNESS_CHECKPOINT_SECONDS": "0.1"}
    process = run_process(TrialFolder(tmp_path / "calm", trial.id).spec, env)
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 0, output
    root = tmp_path / "killed"
    folder = TrialFolder(root, trial.id)
    for part in (0.1, 0.4, 0.7):
        step = part * trial.training.iterations
        process = run_process(folder.spec, env)
        until(lambda step=step: reached(root, trial) >= step, process)  # type: ignore[misc]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not folder.result.exists(), "too fast to be killed"
    process = run_process(folder.spec, env)
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 0, output
    calm, killed = result_of(tmp_path / "calm", trial), result_of(root, trial)
    assert timeless(killed) == timeless(calm)
    assert killed["attempts"] == 4
    assert killed["environment"]["resumed"] == "bitwise"
    (undisturbed,) = TrialFolder(tmp_path / "calm", trial.id).attempts()
    assert _curves(folder.attempt(killed["attempt_id"])) == _curves(undisturbed)
