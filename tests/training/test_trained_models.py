"""A trained model is committed on its own: what differs in its evaluation alone scores it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, result_of, run_fake, timeless, write_spec

from harness.errors import RecordError
from harness.measuring.evaluator import Evaluator, Scoring
from harness.planning.states import States
from harness.process.cores import Lease
from harness.process.machine import Usage
from harness.process.watch import Interrupted
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.records.trained import TrainedFolder, begin_anew
from harness.training import attempt as attempts
from harness.training.loop import TrainingLoop
from harness.trial import AdaptiveSolver, Evaluation, Training, Trial

pytestmark = pytest.mark.usefixtures("process_unchanged")

CHANGES: dict[str, dict[str, Any]] = {
    "rows": {"rows": 50},
    "trace": {"trace": "hutchinson"},
    "batch": {"batch": 50},
    "solver": {"solver": AdaptiveSolver("dopri5", 1e-7, 1e-7)},
    "samples": {"samples": 0},
}


def _changed(trial: Trial, **evaluation: Any) -> Trial:  # noqa: ANN401
    return replace(trial, evaluation=replace(trial.evaluation, **evaluation))


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], States]:
    """What a plan of this root finds, with the fake backend known."""
    monkeypatch.setattr("harness.backends.get_backend", lambda name: FakeBackend())
    return lambda: States(tmp_path)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(loop: TrainingLoop) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(TrainingLoop, "train", train)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_evaluation_scores_and_ends_as_if_it_had_trained(
    change: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    trial = fake_trial(iterations=20)
    other = _changed(trial, **CHANGES[change])
    assert (other.training_id, other.id != trial.id) == (trial.training_id, True)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert run_fake(alone, other) is Status.OK
    assert run_fake(shared, trial) is Status.OK
    request.getfixturevalue("no_training")
    assert run_fake(shared, other) is Status.OK
    expected, found = result_of(alone, other), result_of(shared, other)
    assert found["metrics"] == expected["metrics"]
    assert found["nfe"] == expected["nfe"]
    assert found["timing"]["step_s"] == result_of(shared, trial)["timing"]["step_s"]
    by = found["environment"]["trained_by"]
    assert by["trial_id"] == trial.id
    assert "trained_by" not in result_of(shared, trial)["environment"]
    curves = [
        (TrialFolder(shared, t.id).attempts()[0] / "metrics.jsonl").read_bytes()
        for t in (trial, other)
    ]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"solver": AdaptiveSolver("tsit5")},
        {"training": Training(iterations=21)},
        {"training": Training(validation_trace="exact")},
        {"precision": "float64"},
        {"regularizer": {"rnode.kinetic": 0.1}},
    ],
)
def test_everything_else_is_another_training(changes: dict[str, Any]) -> None:
    trial = fake_trial(iterations=20)
    assert replace(trial, **changes).training_id != trial.training_id


def test_validation_does_not_depend_on_the_evaluation(tmp_path: Path) -> None:
    """Else the arrays that are kept would."""
    trial = fake_trial(iterations=20)
    other = replace(trial, evaluation=Evaluation("hutchinson", 7, 50, samples=0))
    roots = tmp_path / "one", tmp_path / "other"
    for root, each in zip(roots, (trial, other), strict=True):
        assert run_fake(root, each) is Status.OK
    models = [
        TrainedFolder(root, trial.training_id).path.glob("attempt-*/model.safetensors")
        for root in roots
    ]
    one, two = (next(found).read_bytes() for found in models)
    assert one == two


def test_a_kill_between_the_two_commits_loses_nothing(
    tmp_path: Path,
    states: Callable[[], States],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    trial = fake_trial(iterations=20)
    calm = tmp_path / "calm"
    assert run_fake(calm, trial) is Status.OK
    with monkeypatch.context() as patch:

        def measure(*_: object) -> None:
            raise Interrupted("stopped")

        patch.setattr(attempts, "measure", measure)
        with pytest.raises(KeyboardInterrupt):
            run_fake(tmp_path, trial)
    assert states().of(trial)[0] == "to_score"
    request.getfixturevalue("no_training")
    assert run_fake(tmp_path, trial) is Status.OK
    assert timeless(result_of(tmp_path, trial))["metrics"] == result_of(calm, trial)["metrics"]
    assert result_of(tmp_path, trial)["nfe"] == result_of(calm, trial)["nfe"]


def test_the_plan_says_what_is_to_be_scored(tmp_path: Path, states: Callable[[], States]) -> None:
    trial = fake_trial(iterations=20)
    other = _changed(trial, rows=50)
    assert states().of(other) == ("to_run", None)
    run_fake(tmp_path, trial)
    assert states().of(other) == ("to_score", f"trained by {trial.id}")
    assert states().of(trial)[0] == "finished"
    assert states().of(trial, rerun=True)[0] == "to_run"
    assert states().of(replace(trial, seed=9))[0] == "to_run"


def test_a_training_that_is_set_aside_is_done_again(tmp_path: Path) -> None:
    trial = fake_trial(iterations=20)
    run_fake(tmp_path, trial)
    folder = TrainedFolder(tmp_path, trial.training_id)
    folder.set_aside()
    folder.set_aside()
    assert folder.read() is None
    assert len(list(folder.path.glob("replaced-*/trained.json"))) == 1
    assert run_fake(tmp_path, _changed(trial, rows=50)) is Status.OK
    assert folder.read() is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "not a JSON object"),
        ('{"training_id": "0123456789abcdef"}', "of another training"),
        (None, "is gone"),
    ],
)
def test_a_damaged_trained_model_is_named_with_the_remedy(
    content: str | None, message: str, tmp_path: Path
) -> None:
    trial = fake_trial(iterations=20)
    run_fake(tmp_path, trial)
    folder = TrainedFolder(tmp_path, trial.training_id)
    if content is None:
        record = json.loads(folder.record.read_text())
        folder.model(record["attempt_id"]).unlink()
    else:
        folder.record.write_text(content)
    other = _changed(trial, rows=50)
    write_spec(tmp_path, other)
    assert run_fake(tmp_path, other) is Status.ERROR
    assert message in result_of(tmp_path, other)["message"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("schema_version", 99, "versions up to"),
        ("timing", "fast", "'timing' is not an object"),
        ("nfe", {"train": "many"}, "'nfe.train' is not a number"),
        ("shared", "no", "'shared' is not true or false"),
        ("trial_id", 1, "'trial_id' is not a text"),
        ("stale", "none", "'stale' is not a whole number"),
    ],
)
def test_a_trained_record_is_not_believed_in_part(
    name: str,
    value: Any,  # noqa: ANN401
    message: str,
    tmp_path: Path,
) -> None:
    trial = fake_trial(iterations=20)
    run_fake(tmp_path, trial)
    folder = TrainedFolder(tmp_path, trial.training_id)
    record = json.loads(folder.record.read_text())
    folder.record.write_text(json.dumps({**record, name: value}))
    with pytest.raises(RecordError, match=message):
        folder.read()


def test_a_flipped_bit_in_a_trained_model_is_noticed(tmp_path: Path) -> None:
    trial = fake_trial(iterations=20)
    run_fake(tmp_path, trial)
    folder = TrainedFolder(tmp_path, trial.training_id)
    found = folder.read()
    assert found is not None
    model = bytearray(folder.model(found.attempt_id).read_bytes())
    model[-1] ^= 1
    folder.model(found.attempt_id).write_bytes(model)
    other = _changed(trial, rows=50)
    assert run_fake(tmp_path, other) is Status.ERROR
    assert "not what was written" in result_of(tmp_path, other)["message"]


def test_a_training_that_is_committed_second_leaves_nothing(tmp_path: Path) -> None:
    trial = fake_trial(iterations=20)
    run_fake(tmp_path, trial)
    folder = TrainedFolder(tmp_path, trial.training_id)
    first = folder.read()
    assert first is not None
    lines = folder.lines(first.attempt_id)
    second = replace(first, attempt_id="later")
    assert not folder.commit(second, b"arrays", lines)
    assert folder.read() == first
    assert [path.name for path in folder.path.glob("attempt-*")] == [lines.parent.name]


@pytest.mark.parametrize("alone", [True, False])
def test_a_test_measured_beside_other_trials_is_shared(
    alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = fake_trial(iterations=20)
    monkeypatch.setattr(Usage, "disturbance", lambda self, cores: None)
    monkeypatch.setattr(Lease, "alone", lambda self: True)
    run_fake(tmp_path, trial)
    monkeypatch.setattr(Lease, "alone", lambda self: alone)
    other = _changed(trial, rows=50)
    run_fake(tmp_path, other)
    expected = "exclusive" if alone else "shared"
    assert result_of(tmp_path, other)["timing"]["mode"] == expected
    assert result_of(tmp_path, trial)["timing"]["mode"] == "exclusive"


@pytest.mark.parametrize("disturbed", [True, False])
def test_a_training_that_others_disturbed_is_shared_whatever_the_locks_say(
    disturbed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lease, "alone", lambda self: True)
    monkeypatch.setattr("harness.training.loop.LEAST_S", 0.0)
    why = "other processes used 3.1 cores" if disturbed else None
    monkeypatch.setattr(Usage, "disturbance", lambda self, cores: why)
    trial = fake_trial(iterations=20)
    run_fake(tmp_path, trial)
    timing = result_of(tmp_path, trial)["timing"]
    assert timing["mode"] == ("shared" if disturbed else "exclusive")
    assert timing["machine"]["wall_s"] > 0
    assert timing["machine"]["cpu_s"] > 0


def test_scoring_compiles_nothing_of_the_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = fake_trial(iterations=20)
    run_fake(tmp_path, trial)
    scored: list[Scoring] = []
    score = Evaluator.log_likelihood

    def noting(evaluator: Evaluator, x: Any, key: Any, scoring: Scoring, *volume: Any) -> Any:  # noqa: ANN401
        scored.append(scoring)
        return score(evaluator, x, key, scoring, *volume)

    monkeypatch.setattr(Evaluator, "log_likelihood", noting)
    other = _changed(trial, **CHANGES["solver"])
    run_fake(tmp_path, other)
    tests = [x for x in scored if x.batch == 0]
    assert tests
    assert set(tests) == {Scoring.of(other, "test")._replace(batch=0)}


def test_beginning_anew_trains_anew(tmp_path: Path) -> None:
    trial = fake_trial(iterations=20)
    run_fake(tmp_path, trial)
    begin_anew(TrialFolder(tmp_path, trial.id), trial)
    assert TrainedFolder(tmp_path, trial.training_id).read() is None
    assert TrialFolder(tmp_path, trial.id).read_result() is None
    assert TrialFolder(tmp_path, trial.id).attempts() == []
