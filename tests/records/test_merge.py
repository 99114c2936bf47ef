"""Run roots of several machines become one."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import fake_trial, result_of, run_fake, write_spec

from harness.commands.merge import merged_text
from harness.commands.show import show
from harness.commands.views import show_text
from harness.errors import InputError, RecordError
from harness.process.watch import Interrupted
from harness.records.arrays import seal, unpack
from harness.records.folder import TrialFolder, trial_ids
from harness.records.merge import merge, notes_of
from harness.records.trained import TrainedFolder
from harness.training import attempt as attempts
from harness.trial import Trial

pytestmark = pytest.mark.usefixtures("process_unchanged")

TRIAL = fake_trial(iterations=10, validate_every=5)


def _run(root: Path, trial: Trial = TRIAL) -> None:
    write_spec(root, trial)
    run_fake(root, trial)


def _changed(root: Path, trial: Trial, value: float) -> None:
    """Another number in a record."""
    path = TrialFolder(root, trial.id).result
    result = json.loads(path.read_text())
    result["metrics"]["test_nll"]["value"] = value
    path.write_text(json.dumps(result))


def _files(root: Path) -> dict[str, bytes]:
    """All but the files that stand for a lock while a trial runs."""
    files = [p for p in root.rglob("*") if p.is_file() and p.name != ".claim"]
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def test_different_trials_come_together(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    other = replace(TRIAL, seed=1)
    _run(a)
    _run(b, other)
    before = _files(a), _files(b)
    found = merge([a, b], c)
    assert sorted(found.taken) == sorted([TRIAL.id, other.id])
    assert (found.same, found.conflicts) == ([], [])
    assert result_of(c, TRIAL) == result_of(a, TRIAL)
    for trial in (TRIAL, other):
        assert TrainedFolder(c, trial.training_id).read() is not None
    assert (_files(a), _files(b)) == before
    again = merge([a, b], c)
    assert (again.taken, again.conflicts) == ([], [])
    assert len(again.same) == 2
    assert not notes_of(TrialFolder(c, TRIAL.id))
    assert _files(c).keys() == {**before[0], **before[1]}.keys()


def test_the_same_numbers_are_one_record_and_a_note(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    _run(a)
    _run(b)
    found = merge([b], a)
    assert (found.taken, found.same, found.conflicts) == ([], [TRIAL.id], [])
    folder = TrialFolder(a, TRIAL.id)
    merge([b], a)
    (note,) = notes_of(folder)
    assert note["attempt_id"] == result_of(b, TRIAL)["attempt_id"]
    assert len(folder.attempts()) == 1
    assert f"attempt {note['attempt_id']}" in show_text(show(TRIAL.id, a))
    assert "1 there already with the same numbers" in merged_text(found)


def test_other_numbers_are_a_conflict_that_is_named(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    _run(a)
    _run(b)
    kept = result_of(a, TRIAL)["metrics"]["test_nll"]["value"]
    _changed(b, TRIAL, kept + 1)
    found = merge([a, b], tmp_path / "c")
    (sentence,) = found.conflicts
    assert sentence == f"trial {TRIAL.id} of {b}: test_nll {kept!r} here, {kept + 1!r} there"
    assert result_of(tmp_path / "c", TRIAL)["metrics"]["test_nll"]["value"] == kept
    assert sentence in merged_text(found)


def test_machines_that_round_differently_have_one_record_and_a_note(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    _run(a)
    _run(b)
    kept = result_of(a, TRIAL)["metrics"]["test_nll"]["value"]
    _changed(b, TRIAL, kept * (1 + 4e-6))
    trained = TrainedFolder(b, TRIAL.training_id)
    record = trained.read()
    assert record is not None
    path = trained.model(record.attempt_id)
    path.write_bytes(seal({k: v * np.float32(1 + 1e-5) for k, v in unpack(path).items()}, {}))
    found = merge([b], a)
    assert (found.same, found.conflicts) == ([TRIAL.id], [])
    (note,) = notes_of(TrialFolder(a, TRIAL.id))
    assert note["largest_difference"] == pytest.approx(4e-6, rel=1e-2)
    # Beyond the tolerance they are a conflict, and which machines it is of is said.
    _changed(b, TRIAL, kept * 1.001)
    result = TrialFolder(b, TRIAL.id).result
    values = json.loads(result.read_text())
    values["environment"]["numerics_fingerprint"] = "another"
    result.write_text(json.dumps(values))
    path.write_bytes(seal({k: v * np.float32(1.01) for k, v in unpack(path).items()}, {}))
    weights, numbers = merge([b], a).conflicts
    assert "other weights" in weights
    assert "the two rounded differently" in numbers


def test_another_status_and_other_weights_are_conflicts(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    _run(a)
    _run(b)
    path = TrialFolder(b, TRIAL.id).result
    path.write_text(path.read_text().replace('"ok"', '"diverged"'))
    trained = TrainedFolder(b, TRIAL.training_id)
    record = trained.read()
    assert record is not None
    other = replace(TRIAL, seed=1)
    _run(b, other)
    theirs = TrainedFolder(b, other.training_id)
    found = theirs.read()
    assert found is not None
    shutil.copy(theirs.model(found.attempt_id), trained.model(record.attempt_id))
    conflicts = merge([b], a).conflicts
    assert any("status ok here, diverged there" in sentence for sentence in conflicts)
    assert any("other weights" in sentence for sentence in conflicts)


def test_a_finished_record_goes_before_one_that_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    _run(b)
    with monkeypatch.context() as patch:

        def measure(*_: object) -> None:
            raise Interrupted("stopped")

        patch.setattr(attempts, "measure", measure)
        with pytest.raises(KeyboardInterrupt):
            _run(a)
    found = merge([b], a)
    assert found.taken == [TRIAL.id]
    assert result_of(a, TRIAL) == result_of(b, TRIAL)
    folder = TrialFolder(a, TRIAL.id)
    assert [p.name for p in folder.attempts()] == [
        p.name for p in TrialFolder(b, TRIAL.id).attempts()
    ]
    assert len(list(folder.path.glob("replaced-*/attempt-*"))) == 1
    # And the other way round nothing is to be done.
    assert merge([a], b).taken == []


def test_attempts_of_a_trial_that_nobody_finished_come_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"

    def measure(*_: object) -> None:
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(attempts, "measure", measure)
        for root in (a, b):
            with pytest.raises(KeyboardInterrupt):
                _run(root)
    merge([b], a)
    assert len(TrialFolder(a, TRIAL.id).attempts()) == 2
    run_fake(a, TRIAL)
    assert result_of(a, TRIAL)["status"] == "ok"


def test_suites_are_gathered(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for root, suite in ((a, "one"), (b, "two")):
        _run(root)
        folder = TrialFolder(root, TRIAL.id)
        folder.write_spec(*folder.read_spec(), suite)
    merge([b], a)
    assert {"one", "two"} <= set(TrialFolder(a, TRIAL.id).suites())


def test_what_is_no_record_stays_behind(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    _run(a)
    folder = TrialFolder(a, TRIAL.id)
    secret = tmp_path / "secret"
    secret.write_text("x")
    os.symlink(secret, folder.path / "link")
    (folder.path / ".result.json.0123456789abcdef0123456789abcdef").write_text("{")
    merge([a], b)
    names = {path.name for path in TrialFolder(b, TRIAL.id).path.iterdir()}
    assert "link" not in names
    assert not any(name.startswith(".") for name in names)
    assert trial_ids(b) == [TRIAL.id]


@pytest.mark.parametrize("damage", ["result", "spec"])
def test_a_damaged_record_is_named_and_the_others_merged(damage: str, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    other = replace(TRIAL, seed=1)
    _run(a)
    _run(a, other)
    path: Any = getattr(TrialFolder(a, TRIAL.id), damage)
    path.write_text("{")
    with pytest.raises(RecordError, match=str(path)):
        merge([a], b)
    assert trial_ids(b) == [other.id]


def test_a_folder_that_is_no_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run root"):
        merge([tmp_path], tmp_path / "c")
    assert not (tmp_path / "c").exists()
