"""Estimates from hand-made records with known answers, budgets, and their record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, result_json, run_fake

from harness.commands import estimate as command
from harness.commands.estimate import estimate_text, probe, require_within_budget
from harness.errors import InputError, RecordError
from harness.executors.run import Execution
from harness.planning.estimate import PROBES, estimate_plan, sums
from harness.planning.plan import Budget, Plan, PlannedTrial, State
from harness.records.durations import spent_seconds
from harness.records.estimates import Estimate, read_estimates, write_estimates
from harness.records.folder import TrialFolder
from harness.specs.resources import Resources
from harness.trial import Evaluation, Trial


def plan_of(
    trials: Sequence[Trial], state: State = "to_run", budget: Budget | None = None
) -> Plan:
    resources = Resources(2, 0.5, 60.0)
    planned = tuple(PlannedTrial(each, state, None, resources) for each in trials)
    return Plan("toy", "", planned, source="toy.yaml", budget=budget)


def write(root: Path, trial: Trial, train_s: float, **timing: Any) -> None:  # noqa: ANN401
    """A record of 40 steps and 4 validations: start 10 s, test 6 s of 100 rows."""
    folder = TrialFolder(root, trial.id)
    folder.write_spec(trial, Resources())
    parts = {"import_s": 4.0, "data_s": 1.0, "build_s": 2.0, "compile_s": 3.0, "test_s": 6.0}
    steps = {"median": 1.0, "q25": 1.0, "q75": 1.0, "n": 39}
    content = {**parts, "train_s": train_s, "val_s": 8.0, "step_s": steps, "first_step_s": 9.0}
    result = result_json(trial.id, timing={**content, **timing, "mode": "shared"})
    folder.result.write_text(json.dumps(result))


def test_time_taken_counts_each_part_once() -> None:
    timing = {"import_s": 1.0, "train_s": 10.0, "first_step_s": 5.0, "step_s.median": 0.1}
    phases = {"step_s.n": 90, "sampling_s.median": 2.0, "sampling_s.n": 3, "mode": "shared"}
    assert spent_seconds({**timing, **phases}) == 17.0


def test_a_longer_training_of_the_same_shape_is_scaled(tmp_path: Path) -> None:
    write(tmp_path, fake_trial(), 40.0)
    longer = fake_trial(seed=5, iterations=400)
    found = estimate_plan(plan_of([longer]), tmp_path)[longer.id]
    # Start 10, 400 steps of 1 s, 40 validations of 2 s, test 6; one record: half as much again.
    assert found.seconds == pytest.approx(10 + 400 + 80 + 6)
    assert (found.low, found.high) == pytest.approx((496 / 1.5, 496 * 1.5))
    assert (found.basis, found.n) == ("records", 1)
    rows = replace(longer, evaluation=Evaluation(rows=50))
    scored = estimate_plan(plan_of([rows], "to_score"), tmp_path)[rows.id]
    # Nothing is trained; the test is of half the rows.
    assert scored.seconds == pytest.approx(10 + 3)


def test_the_range_is_that_of_the_records(tmp_path: Path) -> None:
    for seed, train_s in enumerate((30.0, 40.0, 90.0)):
        write(tmp_path, fake_trial(seed=seed), train_s)
    new = fake_trial(seed=7)
    found = estimate_plan(plan_of([new]), tmp_path)[new.id]
    assert (found.low, found.seconds, found.high) == pytest.approx((54, 64, 114))


@pytest.mark.parametrize("other", [{"batch": 32}, {"trace": "exact"}])
def test_another_shape_says_nothing(tmp_path: Path, other: dict[str, Any]) -> None:
    write(tmp_path, fake_trial(), 40.0)
    new = fake_trial(**other)
    made = plan_of([new])
    assert estimate_plan(made, tmp_path) == {}
    total = sums(made, {})
    assert (total.known, total.unknown, total.unknown_hours) == (0, 1, 1.0)
    assert "unknown, at most 1 h" in estimate_text(made, {})


def test_sums_and_text(tmp_path: Path) -> None:
    trials = [fake_trial(seed=seed) for seed in range(3)]
    made = plan_of(trials)
    known = {each.id: Estimate(7200.0, 3600.0, 10800.0, "records", 4) for each in trials[:2]}
    total = sums(made, known)
    assert (total.low, total.hours, total.high) == (2.0, 4.0, 6.0)
    assert (total.all_hours, total.cpu_hours, total.gpu_hours) == (5.0, 10.0, 2.5)
    text = estimate_text(made, known)
    assert "2 trials: 4 h in sum (2 to 6)" in text
    assert "4 records" in text


def test_a_budget_is_kept(tmp_path: Path) -> None:
    trials = [fake_trial(seed=seed) for seed in range(3)]
    known = {each.id: Estimate(7200.0, 3600.0, 10800.0, "records", 4) for each in trials}
    require_within_budget(plan_of(trials), known)
    require_within_budget(plan_of(trials, budget=Budget(hours=6.0, cpu_hours=12.0)), known)
    with pytest.raises(InputError) as caught:
        require_within_budget(plan_of(trials, budget=Budget(hours=5.9, gpu_hours=2.9)), known)
    text = str(caught.value)
    assert "'budget.hours', 5.9" in text
    assert "'budget.gpu_hours', 2.9" in text
    assert "--yes" in text
    # What nobody knows counts by its timeout.
    with pytest.raises(InputError, match="3 trials without an estimate"):
        require_within_budget(plan_of(trials, budget=Budget(hours=2.9)), {})


@pytest.mark.usefixtures("process_unchanged")
def test_a_probe_is_a_trial_that_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[PlannedTrial] = []

    def run_trials(plan: Plan, root: Path, how: Execution) -> bool:
        assert root == tmp_path / PROBES
        assert not how.mirror
        asked.extend(plan.trials)
        run_fake(root, plan.trials[0].trial)
        return True

    monkeypatch.setattr(command, "run_trials", run_trials)
    monkeypatch.setattr("harness.backends.get_backend", lambda name: FakeBackend())
    trials = [fake_trial(seed=seed, batch=batch) for batch in (16, 32) for seed in range(3)]
    made = plan_of(trials)
    assert probe(made, tmp_path, 0.5)
    # One for each shape.
    assert [(p.trial.training.batch, p.resources.timeout_minutes) for p in asked] == [
        (16, 0.5),
        (32, 0.5),
    ]
    found = estimate_plan(made, tmp_path)
    assert found.keys() == {each.id for each in trials}
    assert {each.basis for each in found.values()} == {"probe"}
    assert all(0 < each.low < each.seconds < each.high for each in found.values())
    # Known by now.
    assert probe(made, tmp_path, 0.5)
    assert len(asked) == 2


def test_estimates_are_a_record_that_is_checked(tmp_path: Path) -> None:
    first, second = Estimate(1.0, 0.5, 2.0, "probe", 1), Estimate(3.0, 2.0, 4.0, "records", 3)
    assert read_estimates(tmp_path, "toy") == {}
    write_estimates(tmp_path, "toy", {"a": first})
    write_estimates(tmp_path, "toy", {"b": second})
    assert read_estimates(tmp_path, "toy") == {"a": first, "b": second}
    path = tmp_path / "estimates" / "toy.json"
    text = path.read_text()
    for old, new, word in (('"probe"', '"guess"', "basis"), ('"n": 1', '"n": "1"', "n")):
        path.write_text(text.replace(old, new))
        with pytest.raises(RecordError, match=word):
            read_estimates(tmp_path, "toy")


def test_a_damaged_record_says_nothing_and_stops_nothing(tmp_path: Path) -> None:
    for seed in range(2):
        write(tmp_path, fake_trial(seed=seed), 40.0)
    TrialFolder(tmp_path, fake_trial(seed=1).id).result.write_text("{")
    new = fake_trial(seed=7)
    found = estimate_plan(plan_of([new]), tmp_path)[new.id]
    assert found.n == 1
    assert found.seconds == pytest.approx(64)
