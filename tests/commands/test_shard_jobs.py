"""Jobs of an array at the same time, over one run root: `harness run --shard` in processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import environment

from harness.records.folder import TrialFolder, read_records, trial_ids
from harness.records.trained import TrainedFolder

SUITE = """\
name: array
trials:
  - dataset: moons
    backend: fake
    seed: [0, 1, 2]
    solver: {name: rk4_38, steps: 2}
    model: {layer: concat, hidden: [4], end_time: {value: 0.5}}
    training: {iterations: 20, batch: 10, validate_every: 10, validation_rows: 50}
    evaluation: [{trace: exact, rows: 50, batch: 50}, {trace: exact, rows: 60, batch: 60}]
resources: {cpus: 1, timeout_minutes: 5}
"""


class Job:
    """`harness run array.yaml --shard I/N --executor inline` in a process."""

    def __init__(self, folder: Path, shard: str, **behaviour: object) -> None:
        code = "from harness.cli import main; main()"
        words = ["run", "array.yaml", "--shard", shard, "--executor", "inline"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *words, "--root", "runs"],
            cwd=folder,
            env=environment(folder / "site", **behaviour),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ended(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=120)
        return self.process.returncode, output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "array.yaml").write_text(SUITE, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_two_jobs_share_a_run_root_and_train_nothing_twice(folder: Path) -> None:
    jobs = [Job(folder, "1/2"), Job(folder, "2/2")]
    for job in jobs:
        code, output = job.ended()
        assert code == 0, output
        assert "after the last one: harness run array.yaml" in output
    root = folder / "runs"
    records = list(read_records(root, trial_ids(root)))
    assert [record.result["status"] for record in records if record.result] == ["ok"] * 6
    trained = set()
    for record in records:
        assert len(TrialFolder(root, record.trial.id).attempts()) == 1
        model = TrainedFolder(root, record.trial.training_id).read()
        assert model is not None
        trained.add(model.trial_id)
    assert len(trained) == 3
    assert not (root / "mlflow.db").exists()
    assert not (root / "reports").exists()


@pytest.mark.slow
def test_a_job_that_was_stopped_goes_on_with_its_part(folder: Path) -> None:
    job = Job(folder, "1/2", sleep_s=0.2)
    end = time.monotonic() + 60
    while not list((folder / "runs").glob("trials/*/attempt-*/progress.json")):
        assert time.monotonic() < end
        time.sleep(0.05)
    job.process.send_signal(signal.SIGUSR1)
    code, output = job.ended()
    assert code == 130, output
    first = set(trial_ids(folder / "runs"))
    code, output = Job(folder, "1/2").ended()
    assert code == 0, output
    assert set(trial_ids(folder / "runs")) == first, "the same part"
