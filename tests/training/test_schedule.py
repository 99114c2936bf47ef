"""Learning rate, KL weight and patience, by hand and in whole trainings of the fake backend."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import fake_trial, result_of, run_fake, timeless

from harness.records.folder import TrialFolder
from harness.records.readers import read_lines
from harness.records.status import Status
from harness.training.checkpoint import Checkpoint
from harness.training.lines import Cadence
from harness.training.schedule import drops_made, is_over, kl_weight, learning_rate
from harness.trial import AdaptiveSolver, Optimizer, Patience, Schedule, Training, Trial

pytestmark = pytest.mark.usefixtures("process_unchanged")


def test_learning_rate_by_hand() -> None:
    training = Training(optimizer=Optimizer(lr=0.8), schedule=Schedule(4, (6, 8), 0.5))
    rates = [learning_rate(training, step, 0) for step in range(10)]
    assert rates == [0.2, 0.4, 0.6000000000000001, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2]
    assert learning_rate(training, 7, 1) == 0.2
    assert learning_rate(Training(), 0, 0) == 1e-3
    tabular = Training(patience=Patience((10, 20), 30))
    assert [learning_rate(tabular, 5, drops) for drops in (0, 1, 2)] == pytest.approx(
        [1e-3, 1e-4, 1e-5], rel=1e-14
    )


def test_kl_weight_rises_an_epoch_at_a_time() -> None:
    training = Training(validate_every=10, schedule=Schedule(kl_warmup=40))
    weights = [kl_weight(training, step) for step in (0, 9, 10, 25, 30, 39, 40, 1000)]
    assert weights == [0.25, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]
    assert kl_weight(Training(), 0) == 1.0


def test_patience_as_the_released_tabular_code_has_it() -> None:
    """A tenth after more than 10 validations without gain, a hundredth after more than 20 of any
    later run of them, and the end after more than 30.
    """
    patience, drops, found = Patience((10, 20), 30), 0, []
    # Fifteen without gain, a gain, then thirty-one.
    for stale in (*range(1, 16), *range(32)):
        drops = drops_made(patience, stale, drops)
        found.append(drops)
        assert is_over(patience, stale) == (stale == 31)
    assert found.index(1) == 10
    assert found[15:].index(2) == 21
    assert not is_over(Patience(), 10**6)


def _run(root: Path, trial: Trial, *, may_retry: bool = False) -> Status:
    cadence = Cadence(checkpoint_s=0.0, log_s=0.0)
    return run_fake(root, trial, cadence=cadence, may_retry=may_retry)


def _lines(root: Path, trial: Trial) -> list[dict[str, float]]:
    attempt = TrialFolder(root, trial.id).attempt(result_of(root, trial)["attempt_id"])
    return read_lines(attempt / "metrics.jsonl")


# Such a rate overshoots, so that validations without gain come soon.
HASTY = fake_trial(
    iterations=200,
    validate_every=5,
    optimizer=Optimizer(lr=0.3),
    schedule=Schedule(warmup=8),
    patience=Patience((2, 4), 6),
)


def test_a_stop_for_want_of_gain_is_ok_and_says_when(tmp_path: Path) -> None:
    assert _run(tmp_path, HASTY) is Status.OK
    result, lines = result_of(tmp_path, HASTY), _lines(tmp_path, HASTY)
    step = result["metrics"]["steps"]["value"]
    assert step < 200
    assert result["message"] == f"stopped at step {step}: 7 validations without gain"
    validations = [line["val_nll"] for line in lines if "val_nll" in line]
    assert len(validations) == step // 5
    assert all(value >= min(validations[:-7]) for value in validations[-7:])
    assert result["metrics"]["val_nll"]["value"] == min(validations)
    rates = {int(line["step"]): line["lr"] for line in lines if "lr" in line}
    assert rates[1] == pytest.approx(0.3 / 8)
    assert rates[8] == 0.3
    assert min(rates.values()) == pytest.approx(0.003)
    assert result["nfe"]["train"]["forward"]["n"] == step


def test_validations_before_the_step_of_patience_are_not_counted(tmp_path: Path) -> None:
    patient = replace(
        HASTY, training=replace(HASTY.training, patience=Patience((2, 4), 6, after=150))
    )
    assert _run(tmp_path, HASTY) is Status.OK
    assert _run(tmp_path, patient) is Status.OK
    early, late = (result_of(tmp_path, t)["metrics"] for t in (HASTY, patient))
    assert early["steps"]["value"] < 150 < late["steps"]["value"]


@pytest.mark.parametrize("at", [3, 27, 38])
def test_resumed_in_the_middle_the_schedule_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    assert _run(tmp_path / "calm", HASTY) is Status.OK
    behaviour = {"fail": "memory", "at": at, "marks": str(tmp_path), "times": 1}
    monkeypatch.setenv("FAKE_BEHAVIOUR", json.dumps(behaviour))
    root = tmp_path / "cut"
    assert _run(root, HASTY, may_retry=True) is Status.OUT_OF_MEMORY
    assert _run(root, HASTY) is Status.OK
    calm, cut = result_of(tmp_path / "calm", HASTY), result_of(root, HASTY)
    assert cut["attempts"] == 2
    assert timeless(cut) == timeless(calm)
    assert cut["message"] == calm["message"]
    rates = [
        {int(line["step"]): line["lr"] for line in _lines(tmp_path / name, HASTY) if "lr" in line}
        for name in ("calm", "cut")
    ]
    assert rates[0] == rates[1]


def test_a_warm_first_step_survives_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = replace(fake_trial(), solver=AdaptiveSolver("dopri5", first_step="warm"))
    assert _run(tmp_path / "calm", trial) is Status.OK
    behaviour = {"fail": "memory", "at": 22, "marks": str(tmp_path), "times": 1}
    monkeypatch.setenv("FAKE_BEHAVIOUR", json.dumps(behaviour))
    assert _run(tmp_path / "cut", trial, may_retry=True) is Status.OUT_OF_MEMORY
    (attempt,) = TrialFolder(tmp_path / "cut", trial.id).attempts()
    found = Checkpoint.read(attempt)
    assert found is not None
    assert found.state["warm/forward"].tolist() == [2.0 ** -(21 % 4)]
    assert _run(tmp_path / "cut", trial) is Status.OK
    calm, cut = (result_of(tmp_path / name, trial) for name in ("calm", "cut"))
    assert timeless(cut) == timeless(calm)
