"""What came out of a run: failures, gates, status, and the one record that `show` finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import result_json

from harness.commands.outcome import gate_failures, outcome
from harness.commands.show import show
from harness.commands.status import status
from harness.commands.views import outcome_text, show_json, show_text, status_json, status_text
from harness.errors import InputError
from harness.planning.plan import Gate, Plan, PlannedTrial, Resources
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.trial import AdaptiveSolver, DatasetRef, Trial

TRIALS = [
    Trial(DatasetRef("moons", "0"), "torch", AdaptiveSolver("dopri5"), seed=i) for i in range(4)
]


def planned(*gates: Gate, skipped: tuple[int, ...] = ()) -> Plan:
    trials = tuple(
        PlannedTrial(
            trial,
            "skipped" if trial.seed in skipped else "to_run",
            "no reason" if trial.seed in skipped else None,
            Resources(),
        )
        for trial in TRIALS
    )
    return Plan("toy", "", trials, gates, source="toy.yaml")


def result(
    status: str = "ok", message: str | None = None, **metrics: float | None
) -> dict[str, Any]:
    return {
        "status": status,
        "message": message,
        "attempts": 1,
        "metrics": {
            name: {"value": value, "unit": "nats", "n": 10} for name, value in metrics.items()
        },
    }


def commit(root: Path, trial: Trial, content: dict[str, Any]) -> None:
    folder = TrialFolder(root, trial.id)
    folder.write_spec(trial, Resources(), suite="toy")
    assert folder.commit_result(result_json(trial.id, **content))


def broken(gate: Gate, *results: dict[str, Any], skipped: tuple[int, ...] = ()) -> list[str]:
    plan = planned(gate, skipped=skipped)
    return gate_failures(plan, {t.id: r for t, r in zip(TRIALS, results, strict=False)})


def test_a_gate_below_a_number() -> None:
    gate = Gate("seed=0", "test_nll", 3.0)
    assert broken(gate, result(test_nll=2.9)) == []
    assert broken(gate, result(test_nll=3.0)) == [
        f"gate test_nll < 3.0 (seed=0) not kept by {TRIALS[0].id} (moons torch dopri5 rtol=1e-05 "
        "atol=1e-05 none seed 0): test_nll = 3, the bound is 3"
    ]


def test_a_gate_below_another_metric_with_a_margin() -> None:
    gate = Gate("seed=0", "test_nll", "gaussian_nll", 0.25)
    assert broken(gate, result(test_nll=2.0, gaussian_nll=2.5)) == []
    (sentence,) = broken(gate, result(test_nll=2.4, gaussian_nll=2.5))
    assert "test_nll < gaussian_nll - 0.25" in sentence
    assert sentence.endswith("test_nll = 2.4, the bound is 2.25")


@pytest.mark.parametrize(
    "found",
    [
        result(test_nll=None),
        result(gaussian_nll=9.0),
        result("diverged", test_nll=1.0),
    ],
)
def test_a_gate_is_not_kept_by_a_trial_without_the_number(found: dict[str, Any]) -> None:
    (sentence,) = broken(Gate("seed=0", "test_nll", 3.0), found)
    assert sentence.endswith("nothing was measured")


def test_gates_bind_the_trials_that_match_and_are_not_skipped() -> None:
    gate = Gate("seed=1 | seed=2", "test_nll", 3.0)
    sentences = broken(gate, result(test_nll=9.0), result(test_nll=9.0), skipped=(2,))
    assert [TRIALS[1].id in sentence for sentence in sentences] == [True]


def test_outcome_and_its_text(tmp_path: Path) -> None:
    commit(tmp_path, TRIALS[0], result(test_nll=9.0))
    commit(tmp_path, TRIALS[1], result("timeout", "Killed after 30 minutes."))
    commit(tmp_path, TRIALS[2], result("diverged", "The loss is NaN."))
    plan = planned(Gate("seed=0", "test_nll", 3.0), skipped=(3,))
    found = outcome(plan, tmp_path)
    assert (found.ok, found.skipped, found.exit_code) == (1, 1, 1)
    assert [failure.status for failure in found.failures] == [
        Status.TIMEOUT,
        Status.DIVERGED,
    ]
    lines = outcome_text(found, plan.source, Path("runs")).splitlines()
    assert lines[0] == "1 ok, 2 failed, 1 skipped"
    assert lines[1].startswith("gate test_nll < 3.0")
    assert lines[2].endswith("seed 1) timeout: Killed after 30 minutes.")
    command = f"  harness run toy.yaml -k id={TRIALS[1].id} --executor inline"
    assert lines[3] == command
    assert lines[5] == f"  harness run toy.yaml -k id={TRIALS[2].id} --executor inline --rerun"
    elsewhere = outcome_text(found, plan.source, tmp_path).splitlines()
    assert elsewhere[3] == f"{command} --root {tmp_path}"


def test_exit_codes(tmp_path: Path) -> None:
    for trial in TRIALS:
        commit(tmp_path, trial, result(test_nll=2.0))
    assert outcome(planned(), tmp_path).exit_code == 0
    assert outcome(planned(Gate("seed=0", "test_nll", 1.0)), tmp_path).exit_code == 3
    assert outcome(planned(), tmp_path / "other").exit_code == 1
    missing = outcome(planned(), tmp_path / "other").failures
    assert {failure.sentence for failure in missing} == {"not run"}


def test_status(tmp_path: Path) -> None:
    commit(tmp_path, TRIALS[0], result("error", "It broke."))
    attempt = TrialFolder(tmp_path, TRIALS[1].id).attempt("a")
    attempt.mkdir(parents=True)
    lines = [json.dumps({"step": step, "timestamp_ms": 1}) for step in (10, 20)]
    (attempt / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 3']), encoding="utf-8")
    found = status(planned(skipped=(3,)), tmp_path)
    assert [(entry.status, entry.step, entry.message) for entry in found] == [
        ("error", None, "It broke."),
        ("started", 20, None),
        ("to_run", None, None),
        ("skipped", None, "no reason"),
    ]
    text = status_text(found).splitlines()
    assert len(text) == 6
    assert text[-1] == "4 trials: 1 error, 1 started, 1 to_run, 1 skipped"
    assert [entry["status"] for entry in status_json(found)] == [e.status for e in found]


def test_show_finds_a_trial_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    commit(tmp_path, TRIALS[0], result(test_nll=1.25))
    found = show(TRIALS[0].id[:5], tmp_path)
    assert found.trial == TRIALS[0]
    text = show_text(found)
    assert "test_nll  1.25  nats  n=10" in text
    assert "suites" in text
    assert json.loads(json.dumps(show_json(found)))["result"]["status"] == "ok"
    with pytest.raises(InputError, match="no record of this trial"):
        show("nothing", tmp_path)
    TrialFolder(tmp_path, TRIALS[0].id[:5] + "f" * 11).path.mkdir()
    with pytest.raises(InputError, match="several trials begin so"):
        show(TRIALS[0].id[:5], tmp_path)


def test_show_before_there_is_a_result(tmp_path: Path) -> None:
    TrialFolder(tmp_path, TRIALS[0].id).write_spec(TRIALS[0], Resources())
    assert show_text(show(TRIALS[0].id, tmp_path)).splitlines()[-1].split() == [
        *("status", "no", "result", "yet")
    ]
