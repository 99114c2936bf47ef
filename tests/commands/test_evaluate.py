"""`harness evaluate`: recorded trials scored in another way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, result_of, run_fake, write_spec

from harness.commands import evaluate as command
from harness.commands.evaluate import evaluate, rescored
from harness.commands.show import TrialRecord, show
from harness.errors import InputError
from harness.executors.run import Execution
from harness.planning.plan import Plan
from harness.specs.resources import Resources
from harness.trial import AdaptiveSolver, Evaluation, Trial

pytestmark = pytest.mark.usefixtures("process_unchanged")


def _record(trial: Trial) -> TrialRecord:
    return TrialRecord(trial, Resources(), (), None)


def test_settings_are_read_as_in_a_suite() -> None:
    trial = replace(fake_trial(), evaluation=Evaluation(rows=50, solver=AdaptiveSolver("tsit5")))
    changed = rescored(
        _record(trial),
        [
            "evaluation.trace=exact",
            "evaluation.batch=20",
            "evaluation.sample_metrics={rows: 40}",
            "evaluation.sample_metrics.samplings=2",
        ],
    )
    assert (changed.evaluation.trace, changed.evaluation.batch) == ("exact", 20)
    assert (changed.evaluation.rows, changed.evaluation.solver) == (50, AdaptiveSolver("tsit5"))
    assert changed.evaluation.sample_metrics is not None
    wanted = changed.evaluation.sample_metrics
    assert (wanted.rows, wanted.samplings) == (40, 2)
    assert replace(changed, evaluation=trial.evaluation) == trial
    assert changed.training_id == trial.training_id


def test_a_solver_is_replaced_whole() -> None:
    changed = rescored(_record(fake_trial()), ["evaluation.solver={name: dopri5, rtol: 1e-7}"])
    assert changed.evaluation.solver == AdaptiveSolver("dopri5", rtol=1e-7)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.batch=3", "is not of the form"),
        ("evaluation.rows", "is not of the form"),
        ("evaluation=exact", "is not of the form"),
        ("evaluation.tracee=exact", "did you mean 'trace'"),
        ("evaluation.rows=none", "rows"),
        ("evaluation.rows=[", "--set evaluation.rows=["),
        ("evaluation.image_metrics=true", "image_metrics"),
    ],
)
def test_a_mistake_is_named(setting: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        rescored(_record(fake_trial()), [setting])
    assert message in str(caught.value)


def test_it_scores_and_prints_what_came_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = fake_trial(iterations=20)
    write_spec(tmp_path, trial)
    run_fake(tmp_path, trial)

    def run_trials(plan: Plan, root: Path, how: Execution) -> bool:
        for planned in plan.trials:
            assert planned.state == "to_score"
            run_fake(root, planned.trial)
            write_spec(root, planned.trial)
        return True

    monkeypatch.setattr(command, "run_trials", run_trials)
    monkeypatch.setattr("harness.backends.get_backend", lambda name: FakeBackend())
    said: list[str] = []
    code = evaluate(
        [trial.id[:6]], tmp_path, ["evaluation.rows=60"], Execution("inline"), said.append
    )
    assert code == 0
    other = replace(trial, evaluation=replace(trial.evaluation, rows=60))
    assert f"trained by  {trial.id}" in said[0]
    assert "n=60" in said[0]
    assert result_of(tmp_path, other)["metrics"]["test_nll"]["n"] == 60
    assert show(other.id[:6], tmp_path).result is not None
