"""Parts of a plan: disjoint, complete, whatever has been finished; nothing is trained twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from fakes import result_json
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.planning.plan import Plan, PlannedTrial, Resources, State, plan
from harness.planning.shards import Shard, parse_shard, part_of, shard_of
from harness.trial import DatasetRef, Evaluation, FixedSolver, Trial

SUITE = """\
name: toy
trials:
  - {dataset: moons, backend: [torch, jax], solver: dopri5, seed: [0, 1, 2]}
  - dataset: moons
    backend: torch
    solver: {name: rk4_38, steps: 8}
    evaluation: [{rows: 100}, {rows: 200}, {rows: 300}]
exclude: [{when: backend=jax & seed=1, reason: too slow}]
timing: {rounds: 6}
budget: {hours: 1000}
"""


def planned(seed: int, rows: int, state: State = "to_run") -> PlannedTrial:
    """A trial; those of one seed share a model, whatever their rows."""
    evaluation = Evaluation(rows=rows)
    trial = Trial(
        DatasetRef("moons", "d"),
        "torch",
        FixedSolver("rk4_38", 8),
        evaluation=evaluation,
        seed=seed,
    )
    return PlannedTrial(trial, state, None, Resources())


def plan_of(sizes: list[int]) -> Plan:
    """A plan with so many trials of each model."""
    trials = [planned(seed, rows + 1) for seed, size in enumerate(sizes) for rows in range(size)]
    return Plan("toy", "", tuple(trials))


def ids(made: Plan) -> list[str]:
    return [each.trial.id for each in made.trials]


def parts(whole: Plan, count: int) -> list[Plan]:
    return [part_of(whole, Shard(number, count)) for number in range(1, count + 1)]


@given(st.lists(st.integers(1, 4), max_size=12), st.integers(1, 9))
def test_parts_are_disjoint_complete_and_even(sizes: list[int], count: int) -> None:
    whole = plan_of(sizes)
    made = parts(whole, count)
    assert sorted(i for part in made for i in ids(part)) == sorted(ids(whole))
    homes = Counter(i for part in made for i in {p.trial.training_id for p in part.trials})
    assert set(homes.values()) <= {1}, "a model is trained in two parts"
    lengths = [len(part.trials) for part in made]
    assert max(lengths) - min(lengths) <= max(sizes, default=0)
    for part in made:
        order = [i for i in ids(whole) if i in set(ids(part))]
        assert ids(part) == order, "the order of the suite is kept"


def test_the_order_of_a_plan_does_not_matter() -> None:
    whole = plan_of([1, 3, 2, 1, 1])
    turned = Plan("toy", "", whole.trials[::-1])
    for one, other in zip(parts(whole, 3), parts(turned, 3), strict=True):
        assert set(ids(one)) == set(ids(other))


def test_equal_trials_are_spread_to_within_one() -> None:
    assert sorted(len(part.trials) for part in parts(plan_of([1] * 10), 4)) == [2, 2, 3, 3]


def test_two_parts_are_not_the_two_values_of_an_axis(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\ntrials: [{dataset: moons, backend: [torch, jax], solver: dopri5, "
        "seed: [0, 1, 2, 3, 4, 5]}]\n",
        encoding="utf-8",
    )
    for part in parts(plan(path, tmp_path), 2):
        assert len(part.trials) == 6
        assert {each.trial.backend for each in part.trials} == {"torch", "jax"}


def test_what_has_been_finished_moves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(SUITE, encoding="utf-8")
    fresh = plan(path, tmp_path)
    before = [ids(part) for part in parts(fresh, 3)]
    assert sum(map(len, before)) == 8, "what the plan skips is in no part"
    for each, status in zip(fresh.wanted[::2], ("ok", "timeout", "diverged", "ok"), strict=True):
        folder = tmp_path / "trials" / each.trial.id
        folder.mkdir(parents=True)
        record = result_json(each.trial.id, status=status)
        (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")
    later = plan(path, tmp_path)
    assert {each.state for each in later.wanted} == {"to_run", "finished"}
    assert [ids(part) for part in parts(later, 3)] == before
    assert [ids(part) for part in parts(plan(path, tmp_path, rerun=True), 3)] == before


def test_timings_and_budget_are_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(SUITE, encoding="utf-8")
    whole = plan(path, tmp_path)
    assert whole.timing is not None
    assert whole.budget is not None
    part = part_of(whole, Shard(1, 2))
    assert (part.timing, part.budget, part.source) == (None, None, str(path))


def test_more_parts_than_models_leave_some_empty() -> None:
    assert sorted(len(part.trials) for part in parts(plan_of([2, 1]), 4)) == [0, 0, 1, 2]
    assert len(part_of(plan_of([2, 1]), Shard(1, 10**9 - 1)).trials) == 2


@pytest.mark.parametrize(("text", "shard"), [("1/1", Shard(1, 1)), (" 12/34 ", Shard(12, 34))])
def test_a_shard_is_read(text: str, shard: Shard) -> None:
    assert parse_shard(text) == shard
    assert str(shard) == text.strip()


@pytest.mark.parametrize("text", ["", "3", "1/", "/4", "a/b", "1/2/3", "-1/4", "1.0/4", "١/٤"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_shard(text)
    assert str(caught.value) == (
        f"--shard: found {text!r}, expected two numbers i/n\n"
        "  fix: write i/n: 2/8 is the second of eight parts"
    )


@pytest.mark.parametrize(
    ("text", "accepted"),
    [("0/8", "1/8 to 8/8"), ("9/8", "1/8 to 8/8"), ("2/1", "1/1, "), ("0/0", "1/1, ")],
)
def test_parts_that_do_not_exist_are_refused(text: str, accepted: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_shard(text)
    message = str(caught.value)
    assert f"--shard: found '{text}', expected i/n with 1 <= i <= n" in message
    assert f"parts are numbered from 1: {accepted}" in message


def test_no_filter_by_state_since_that_changes_while_jobs_run() -> None:
    assert shard_of(None, "state=to_run") is None
    assert shard_of("1/2", "backend=jax & dataset!=moons") == Shard(1, 2)
    with pytest.raises(InputError) as caught:
        shard_of("1/2", "backend=jax & state=to_run")
    assert str(caught.value).splitlines() == [
        "-k: the state of trials cannot choose what is divided by --shard",
        "    backend=jax & state=to_run",
        "                  ^^^^^",
        "  fix: leave it out; what is finished is not run again without --rerun",
    ]
    with pytest.raises(InputError, match="unknown field 'colour'"):
        shard_of("1/2", "colour=red")
