"""What of a run root is kept with the code, and how another machine goes on from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import fake_trial, result_json, result_of, run_fake, write_spec

from harness.commands import publication
from harness.commands.publication import copy_records, thinned
from harness.commands.publish import publish, write_published
from harness.errors import InputError
from harness.planning.plan import PlannedTrial, plan_suite
from harness.process.watch import Watch
from harness.records.folder import TrialFolder
from harness.records.merge import merge
from harness.records.readers import read_lines
from harness.records.status import Status
from harness.specs.resources import Resources
from harness.training.checkpoint import Checkpoint
from harness.training.lines import Cadence
from harness.training.run_trial import new_attempt_id
from harness.trial import Trial

pytestmark = pytest.mark.usefixtures("process_unchanged")

TRIAL = fake_trial()
OFTEN = Cadence(checkpoint_s=0.0)


def _planned(*trials: Trial) -> list[PlannedTrial]:
    return [PlannedTrial(trial, "to_run", None, Resources()) for trial in trials]


def _stopped(root: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Runs the trial up to a step; a checkpoint is there, a result is not."""
    behaviour = {"fail": "memory", "at": at, "marks": str(root), "times": 1}
    root.mkdir(exist_ok=True)
    monkeypatch.setenv("FAKE_BEHAVIOUR", json.dumps(behaviour))
    write_spec(root, TRIAL)
    run_fake(root, TRIAL, may_retry=True, cadence=OFTEN)
    monkeypatch.delenv("FAKE_BEHAVIOUR")
    assert TrialFolder(root, TRIAL.id).read_result() is None


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def _step(root: Path) -> int:
    (attempt,) = TrialFolder(root, TRIAL.id).attempts()
    found = Checkpoint.read(attempt)
    assert found is not None
    return found.totals.step


def test_a_finished_trial_is_published_without_its_arrays(tmp_path: Path) -> None:
    root, into = tmp_path / "runs", tmp_path / "published"
    other = replace(TRIAL, seed=1)
    write_spec(root, TRIAL)
    run_fake(root, TRIAL)
    made = copy_records(root, into, "suite", _planned(TRIAL, other))
    assert (made.ended, made.begun) == ([TRIAL.id], [])
    result = result_of(into, TRIAL)
    assert result == result_of(root, TRIAL)
    place = f"trials/{TRIAL.id}"
    assert set(_files(into)) == {
        f"{place}/spec.json",
        f"{place}/choices.json",
        f"{place}/result.json",
        f"{place}/attempt-{result['attempt_id']}/metrics.jsonl",
        f"trials/{other.id}/spec.json",
    }
    before = _files(into)
    copy_records(root, into, "suite", _planned(TRIAL, other))
    assert _files(into) == before
    # A root that has none of it takes nothing away.
    copy_records(tmp_path / "empty", into, "suite", _planned(TRIAL, other))
    assert _files(into) == before


def test_a_root_that_trials_were_run_in_is_no_place_to_publish(tmp_path: Path) -> None:
    write_spec(tmp_path, TRIAL)
    attempt = TrialFolder(tmp_path, TRIAL.id).begin(new_attempt_id())
    Watch(attempt, 60.0).report()
    before = _files(tmp_path)
    for root in (tmp_path, tmp_path / "empty"):
        with pytest.raises(InputError, match=f"trial {TRIAL.id} was run in"):
            copy_records(root, tmp_path, "suite", _planned(TRIAL))
    assert _files(tmp_path) == before


def test_another_machine_goes_on_from_what_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, into, there = (tmp_path / name for name in ("runs", "published", "there"))
    _stopped(root, monkeypatch, at=12)
    made = copy_records(root, into, "suite", _planned(TRIAL))
    assert (made.ended, made.begun, _step(into)) == ([], [TRIAL.id], 12)
    merge([into], there)
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    assert run_fake(there, TRIAL) is Status.OK
    result = result_of(there, TRIAL)
    assert result["environment"]["resumed"] == "not bitwise"
    assert result["attempts"] == 2
    # And back: the result takes the place of the checkpoint.
    copy_records(there, into, "suite", _planned(TRIAL))
    assert result_of(into, TRIAL) == result
    assert not list(into.rglob("*.safetensors"))


def test_the_checkpoint_that_has_come_further_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far, near, into = (tmp_path / name for name in ("far", "near", "published"))
    _stopped(far, monkeypatch, at=22)
    _stopped(near, monkeypatch, at=12)
    for root in (near, far, near):
        made = copy_records(root, into, "suite", _planned(TRIAL))
        assert made.begun == [TRIAL.id]
    assert _step(into) == 22


def test_a_large_checkpoint_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, into = tmp_path / "runs", tmp_path / "published"
    _stopped(root, monkeypatch, at=12)
    monkeypatch.setattr(publication, "LARGEST_CHECKPOINT", 100)
    made = copy_records(root, into, "suite", _planned(TRIAL))
    assert (made.begun, made.too_large) == ([], [TRIAL.id])
    (attempt,) = TrialFolder(into, TRIAL.id).attempts()
    assert [path.name for path in attempt.iterdir()] == ["metrics.jsonl"]
    assert read_lines(attempt / "metrics.jsonl")


def test_a_thinned_curve_has_its_ends_and_all_validations() -> None:
    lines = [{"step": step, "nll": 1.0} for step in range(1, 1001)]
    lines[123] = {"step": 124, "val_nll": 2.0}
    kept = thinned(lines, 10)
    assert kept[0] is lines[0]
    assert kept[-1] is lines[-1]
    assert lines[123] in kept
    assert len(kept) == 12
    assert thinned(lines[:7], 10) == lines[:7]
    assert thinned([]) == []


SUITE = """
name: tiny
description: One trial.
defaults: {backend: torch, dataset: moons, solver: dopri5}
trials:
  - model: {hidden: [4]}
    training: {iterations: 10}
    seed: [0, 1]
"""


def test_a_suite_is_published_with_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(SUITE)
    first = plan_suite("tiny.yaml", tmp_path / "runs").trials[0].trial
    folder = TrialFolder(tmp_path / "runs", first.id)
    folder.write_spec(first, Resources(), "tiny")
    nll = {"value": 3.5, "unit": "nats", "n": 10}
    folder.commit_result(result_json(first.id, metrics={"test_nll": nll}))
    made = publish("tiny.yaml", tmp_path / "runs", Path("published"))
    assert made.ended == [first.id]
    text = Path("published/report.md").read_text()
    assert "2 trials: 1 ok, 1 not run" in text, text[:900]
    assert f"published/trials/{first.id}/result.json" in text
    assert "- Written: 1970-01-01 00:00 UTC" in text
    assert first.id in Path("published/export/trials.csv").read_text()
    before = _files(Path("published"))
    write_published("tiny.yaml", Path("published"))
    assert _files(Path("published")) == before
