"""SIGKILL of a trial while its samples are measured."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

from fakes import environment, fake_trial, result_of, run_process, timeless, until, write_spec

from harness.measuring.measurements import Measurements
from harness.records.folder import TrialFolder
from harness.trial import SampleMetrics


def test_killed_between_samplings_the_numbers_are_those_of_an_undisturbed_run(
    tmp_path: Path,
) -> None:
    trial = fake_trial(iterations=5)
    wanted = SampleMetrics(rows=1000, samplings=12, exact_emd_rows=0)
    trial = replace(trial, evaluation=replace(trial.evaluation, sample_metrics=wanted))
    env = environment(tmp_path / "packages")

    def measured(root: Path) -> int:
        found = [Measurements.read(a) for a in TrialFolder(root, trial.id).attempts()]
        return max((state.samplings.count for state in found if state), default=0)

    calm, killed = tmp_path / "calm", tmp_path / "killed"
    process = run_process(write_spec(calm, trial), env)
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 0, output
    spec = write_spec(killed, trial)
    for count in (1, 4):
        process = run_process(spec, env)
        until(lambda count=count: measured(killed) >= count, process)  # type: ignore[misc]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not TrialFolder(killed, trial.id).result.exists(), "too fast to be killed"
    process = run_process(spec, env)
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 0, output
    result = result_of(killed, trial)
    assert timeless(result) == timeless(result_of(calm, trial))
    assert result["attempts"] == 3
    assert result["metrics"]["cd"]["n"] == 12
    assert result["environment"]["resumed"] == "bitwise"
