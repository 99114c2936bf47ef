"""`harness verify`: what it says of records that are right, and of those that were altered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, run_fake, write_spec

from harness.commands import verify as command
from harness.commands.verify import Choice, exit_code, verify
from harness.errors import InputError, RecordError
from harness.executors.run import Execution
from harness.planning.plan import Plan
from harness.records.arrays import pack, seal, unpack
from harness.records.folder import TrialFolder
from harness.records.trained import TrainedFolder
from harness.records.verified import Verification, read_verifications
from harness.trial import Optimizer, Trial

pytestmark = pytest.mark.usefixtures("process_unchanged")

Verify = Callable[..., Sequence[Verification]]


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verifies with an executor that runs the fake backend in this process."""

    def run_trials(plan: Plan, root: Path, how: Execution) -> bool:
        assert not how.mirror
        for planned in plan.trials:
            run_fake(root, planned.trial)
        return True

    monkeypatch.setattr(command, "run_trials", run_trials)
    monkeypatch.setattr("harness.backends.get_backend", lambda name: FakeBackend())

    def call(root: Path, **choice: Any) -> Sequence[Verification]:  # noqa: ANN401
        found = verify(root, Choice(**choice), Execution("inline", mirror=False), say=print)
        assert found is not None
        return found

    return call


def record(root: Path, trial: Trial) -> TrialFolder:
    write_spec(root, trial)
    run_fake(root, trial)
    return TrialFolder(root, trial.id)


def under_another_name(root: Path, trial: Trial, claimed: Trial) -> None:
    """Makes the record of one trial that of another, with all that says which it is."""
    shutil.move(TrialFolder(root, trial.id).path, TrialFolder(root, claimed.id).path)
    path = TrialFolder(root, claimed.id).result
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "trial_id": claimed.id}))
    shutil.rmtree(root / "trained")
    TrialFolder(root, claimed.id).spec.unlink()
    write_spec(root, claimed)


def test_a_true_record_is_the_same_bit_for_bit(tmp_path: Path, again: Verify) -> None:
    trial = fake_trial()
    record(tmp_path, trial)
    (found,) = again(tmp_path)
    assert (found.verdict, found.parted, found.weights) == ("bitwise", None, 0)
    assert found.largest == 0.0
    assert found.expects_bitwise
    assert found.is_kept
    assert list(read_verifications(tmp_path)) == [found]
    assert exit_code([found]) == 0


@pytest.mark.parametrize(
    "claim",
    [
        lambda trial: replace(trial, seed=7),
        lambda trial: replace(
            trial, training=replace(trial.training, optimizer=Optimizer(lr=0.021))
        ),
        lambda trial: replace(trial, training=replace(trial.training, batch=17)),
    ],
    ids=["seed", "learning rate", "batch"],
)
def test_an_altered_spec_is_found(
    tmp_path: Path, again: Verify, claim: Callable[[Trial], Trial]
) -> None:
    trial = fake_trial()
    record(tmp_path, trial)
    under_another_name(tmp_path, trial, claim(trial))
    (found,) = again(tmp_path)
    assert found.verdict == "not_same"
    assert found.parted is not None
    assert found.parted.step == 10
    assert exit_code([found]) == 1


def test_a_spec_that_is_not_what_its_id_says_is_named(tmp_path: Path, again: Verify) -> None:
    folder = record(tmp_path, fake_trial())
    other = record(tmp_path, fake_trial(seed=1))
    folder.spec.write_text(folder.spec.read_text().replace('"seed": 0', '"seed": 3'))
    with pytest.raises(RecordError, match="describes"):
        again(tmp_path)
    # What can be verified is, all the same.
    assert [v.trial_id for v in read_verifications(tmp_path)] == [other.trial_id]


@pytest.mark.parametrize("which", ["measured", "trained"])
def test_one_altered_weight_is_found(tmp_path: Path, again: Verify, which: str) -> None:
    trial = fake_trial()
    folder = record(tmp_path, trial)
    path = next(folder.path.glob("attempt-*/model.safetensors"))
    encode = pack
    if which == "trained":
        trained = TrainedFolder(tmp_path, trial.training_id)
        path, encode = next(trained.path.glob("attempt-*/model.safetensors")), seal
    arrays = {name: array.copy() for name, array in unpack(path).items()}
    arrays["m"][0] = np.nextafter(arrays["m"][0], np.float32(9))
    path.write_bytes(encode(arrays, {"trial_id": trial.id} if which == "measured" else {}))
    (found,) = again(tmp_path)
    assert (found.verdict, found.weights, found.parted) == ("not_same", 1, None)


def test_one_altered_result_is_found(tmp_path: Path, again: Verify) -> None:
    trial = fake_trial()
    folder = record(tmp_path, trial)
    result = json.loads(folder.result.read_text())
    result["metrics"]["test_nll"]["value"] += 0.01
    folder.result.write_text(json.dumps(result))
    (found,) = again(tmp_path)
    assert not found.is_kept
    assert found.verdict == "undecided"
    assert found.largest == pytest.approx(0.01, rel=0.9)
    assert "test_nll" in found.reason


def test_noise_is_measured_by_other_seeds(tmp_path: Path, again: Verify) -> None:
    folders = [record(tmp_path, fake_trial(seed=seed)) for seed in range(3)]
    values = [json.loads(each.result.read_text())["metrics"]["test_nll"] for each in folders]
    spread = float(np.std([each["value"] for each in values], ddof=1))
    for shift, verdict in ((0.05, "statistically"), (0.6, "not_same")):
        result = json.loads(folders[0].result.read_text())
        # The altered value is itself one of the seeds: small against the margin.
        result["metrics"]["test_nll"]["value"] = values[0]["value"] + shift * spread
        folders[0].result.write_text(json.dumps(result))
        (found,) = again(tmp_path, trial_ids=[folders[0].trial_id[:8]])
        assert found.verdict == verdict, found.reason
        # On one machine the same bits were due.
        assert not found.is_kept


@pytest.mark.parametrize("hidden", [False, True])
def test_one_altered_data_row_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: Verify, hidden: bool
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("HARNESS_DATA_DIR", str(data))
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.normal(size=(200, 2)).astype(np.float32) for name in ("train", "val", "test")
    }
    np.savez(data / "own.npz", **arrays)  # type: ignore[arg-type]
    root, trial = tmp_path / "runs", fake_trial("own")
    record(root, trial)
    assert again(root)[0].verdict == "bitwise"
    arrays["train"][3] += 1
    np.savez(data / "own.npz", **arrays)  # type: ignore[arg-type]
    if hidden:
        under_another_name(root, trial, fake_trial("own"))
    (found,) = again(root)
    assert found.verdict == "not_same"
    assert ("the data differ" in found.reason) is not hidden


def test_another_backend_is_held_to_the_tolerance(tmp_path: Path, again: Verify) -> None:
    record(tmp_path, fake_trial())
    (found,) = again(tmp_path, backend="other")
    # The fake under another name computes the same.
    assert (found.backend, found.verdict) == ("other", "bitwise")
    assert {path.name for path in (tmp_path / "verified").glob("*/*")} == {"other.json"}


def test_a_sample_takes_first_what_nobody_has_verified(tmp_path: Path, again: Verify) -> None:
    ids = {record(tmp_path, fake_trial(seed=seed)).trial_id for seed in range(3)}
    seen = [again(tmp_path, sample=1)[0].trial_id for _ in range(3)]
    assert set(seen) == ids
    (filtered,) = again(tmp_path, where="seed=2")
    assert filtered.trial_id == fake_trial(seed=2).id


def test_nothing_to_verify_is_said(tmp_path: Path, again: Verify) -> None:
    with pytest.raises(InputError, match="no finished trial"):
        again(tmp_path)
    record(tmp_path, fake_trial())
    with pytest.raises(InputError, match="no finished trial"):
        again(tmp_path, where="seed=9")


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('"verdict": "bitwise"', '"verdict": "fine"', "verdict"),
        ('"attempt_id"', '"attempt"', "attempt"),
        ('"schema_version": 1', '"schema_version": 9', "schema version"),
        ('"backend": "fake"', '"backend": "torch"', "not of this place"),
        ("{", "", "cannot be read"),
    ],
)
def test_a_damaged_verification_is_named(
    tmp_path: Path, again: Verify, old: str, new: str, word: str
) -> None:
    record(tmp_path, fake_trial())
    again(tmp_path)
    path = next((tmp_path / "verified").glob("*/*.json"))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(RecordError, match=word) as caught:
        list(read_verifications(tmp_path))
    assert str(path) in str(caught.value)


def test_json_stands_alone_on_standard_output(
    tmp_path: Path,
    again: Verify,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from harness.cli import main

    record(tmp_path, fake_trial())
    monkeypatch.setattr("sys.argv", ["harness", "verify", "--json", "--root", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert caught.value.code == 0
    (found,) = json.loads(out)
    assert (found["verdict"], found["kept"]) == ("bitwise", True)
    assert "1 of 1 trial verified" in err


def test_data_that_are_gone_are_said_and_stop_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: Verify
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("HARNESS_DATA_DIR", str(data))
    rows = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    np.savez(data / "own.npz", train=rows, val=rows, test=rows)
    root = tmp_path / "runs"
    gone = record(root, fake_trial("own")).trial_id
    kept = record(root, fake_trial()).trial_id
    (data / "own.npz").unlink()
    found = {each.trial_id: each for each in again(root)}
    assert found[kept].verdict == "bitwise"
    assert found[gone].verdict == "not_run"
    assert "unknown dataset 'own'" in found[gone].reason
