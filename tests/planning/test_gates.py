"""Gates: which trials they bind, and what they say."""

from __future__ import annotations

import pytest

from harness.errors import InputError
from harness.planning.gates import check_gates
from harness.planning.plan import Gate
from harness.trial import DatasetRef, FixedSolver, Trial

DIGITS = Trial(DatasetRef("digits", "d"), "torch", FixedSolver("rk4_38", 8))
MOONS = Trial(DatasetRef("moons", "d"), "jax", FixedSolver("euler", 8))


def verdict(gate: Gate, *values: dict[str, float]) -> str:
    trials = [(MOONS, found) for found in values]
    return check_gates([gate], trials)[0].verdict


def test_filter_decides_whom_a_gate_binds() -> None:
    gate = Gate("dataset=digits & backend=torch", "test_nll", 1.0)
    (result,) = check_gates([gate], [(DIGITS, {"test_nll": 0.5}), (MOONS, {"test_nll": 9.0})])
    assert [check.trial_id for check in result.checks] == [DIGITS.id]
    assert result.verdict == "pass"


def test_one_trial_above_the_bound_fails_it() -> None:
    gate = Gate("dataset=moons", "test_nll", 1.0)
    assert verdict(gate, {"test_nll": 0.9}, {"test_nll": 1.1}) == "fail"
    assert verdict(gate, {"test_nll": 1.0}) == "fail"


def test_bound_may_be_another_metric_of_the_same_trial() -> None:
    gate = Gate("dataset=moons", "test_nll", "gaussian_nll", margin=0.2)
    assert verdict(gate, {"test_nll": 1.7, "gaussian_nll": 2.0}) == "pass"
    assert verdict(gate, {"test_nll": 1.9, "gaussian_nll": 2.0}) == "fail"
    assert verdict(gate, {"test_nll": 1.0}) == "incomplete"


def test_missing_trials_are_incomplete_and_never_hide_a_failure() -> None:
    gate = Gate("dataset=moons", "test_nll", 1.0)
    assert verdict(gate, {"test_nll": 0.5}, {}) == "incomplete"
    assert verdict(gate, {"test_nll": 1.5}, {}) == "fail"
    assert verdict(gate) == "incomplete"


def test_slack_tells_by_how_much() -> None:
    gate = Gate("id=*", "test_nll", 2.0, margin=0.5)
    (result,) = check_gates([gate], [(MOONS, {"test_nll": 1.0})])
    assert [check.slack for check in result.checks] == [0.5]


def test_malformed_filter_is_the_users_mistake() -> None:
    with pytest.raises(InputError, match="unknown field 'datset'"):
        check_gates([Gate("datset=moons", "test_nll", 1.0)], [])
