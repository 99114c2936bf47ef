"""Errors against the reference of the same weights: what is recorded, and computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, result_of, run_fake

from harness.datasets.base import Rows
from harness.interface import Model
from harness.measuring import reference
from harness.records.status import Status
from harness.records.trained import TrainedFolder
from harness.trial import Accuracy, FixedSolver, Trial

pytestmark = pytest.mark.usefixtures("process_unchanged")

ERRORS = ("log_prob_error_median", "log_prob_error_99", "log_prob_error_max")


def _trial(**evaluation: Any) -> Trial:  # noqa: ANN401
    trial = fake_trial(iterations=5)
    wanted = {"accuracy": Accuracy(repeats=3), **evaluation}
    return replace(trial, evaluation=replace(trial.evaluation, **wanted))


def test_the_record_has_errors_evaluations_and_the_time_of_a_solve(tmp_path: Path) -> None:
    trial = _trial()
    assert run_fake(tmp_path, trial) is Status.OK
    result = result_of(tmp_path, trial)
    median, most, largest = (result["metrics"][name] for name in ERRORS)
    # The fake has no solver, so its errors are the rounding of float32.
    assert 0 < median["value"] <= most["value"] <= largest["value"] < 1e-5
    assert {each["n"] for each in (median, most, largest)} == {64}
    assert "gradient_error" not in result["metrics"]
    assert result["nfe"]["solve"] == 8
    assert result["timing"]["solve_s"]["n"] == result["timing"]["solve_cpu_s"]["n"] == 3


def test_the_reference_is_computed_once_for_a_trained_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = FakeBackend.open

    def watched(self: FakeBackend, trial: Trial, *rest: Any) -> Model:  # noqa: ANN401
        opened.append(trial.precision)
        return real(self, trial, *rest)

    monkeypatch.setattr(FakeBackend, "open", watched)
    first, second = _trial(), _trial(solver=FixedSolver("euler", 2))
    assert first.training_id == second.training_id
    for trial in (first, second):
        assert run_fake(tmp_path, trial) is Status.OK
    assert opened == ["float32", "float64", "float32"]
    record = TrainedFolder(tmp_path, first.training_id).read()
    assert record is not None
    folder = TrainedFolder(tmp_path, first.training_id).model(record.attempt_id).parent
    (kept,) = folder.glob("reference-*.safetensors")
    # A damaged reference is computed again, and rows of another number have their own.
    kept.write_bytes(b"damaged")
    assert run_fake(tmp_path, _trial(batch=32)) is Status.OK
    assert run_fake(tmp_path, _trial(solver=FixedSolver("euler", 3))) is Status.OK
    assert opened.count("float64") == 3
    # So has another estimate of the trace.
    for draws in (1, 4):
        assert run_fake(tmp_path, _trial(trace="hutchinson", draws=draws)) is Status.OK
    assert opened.count("float64") == 5


def test_a_trial_without_accuracy_keeps_its_identity() -> None:
    trial = fake_trial(iterations=5)
    said = replace(trial, evaluation=replace(trial.evaluation, engine=None, accuracy=None))
    assert said.id == trial.id
    assert _trial().id != trial.id
    assert _trial().training_id == trial.training_id


def test_an_engine_that_is_the_trial_s_own_is_not_asked_for_apart() -> None:
    assert _trial(engine="native").evaluation_engine is None
    assert _trial(engine="library").evaluation_engine == "library"
    own = replace(_trial(engine="native"), engine="library")
    assert own.evaluation_engine == "native"


def test_a_planted_error_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose log p is 0.01 nats too high in float32 alone."""
    exact = reference.log_prob

    def wrong(model: Model, trial: Trial, x: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401
        shift = 0.0 if named.get("reference") else 0.01
        return [value + shift for value in exact(model, trial, x, *rest, **named)]

    monkeypatch.setattr("harness.measuring.accuracy.log_prob", wrong)
    trial = _trial()
    assert run_fake(tmp_path, trial) is Status.OK
    for name in ERRORS:
        assert result_of(tmp_path, trial)["metrics"][name]["value"] == pytest.approx(
            0.01, abs=1e-5
        )


def test_rows_are_those_of_the_first_batch() -> None:
    from harness.measuring.reference import compared_rows, evaluated_rows

    rows = Rows(np.zeros((100, 2)), np.zeros(100))
    assert compared_rows("exact", evaluated_rows(_trial(), rows.x)) == 64
    assert compared_rows("exact", np.zeros((1000, 1000))) == 20
    assert compared_rows("hutchinson", np.zeros((1000, 1000))) == 200
