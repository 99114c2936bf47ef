"""How long a run goes on, from invented trials."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import fake_trial

from harness.executors.pace import Pace
from harness.process.watch import Progress
from harness.trial import Trial

MOONS = fake_trial()
TWIN = replace(MOONS, backend="twin")
CIRCLES = replace(MOONS, dataset=replace(MOONS.dataset, name="circles"))


def seeds(trial: Trial, *which: int) -> list[Trial]:
    return [replace(trial, seed=seed) for seed in which]


def at(step: int, alive_s: float, step_s: float | None = None) -> Progress:
    return Progress("training", step, 100, step_s=step_s, alive_s=alive_s)


def test_nothing_is_known_before_the_first_steps() -> None:
    assert Pace().remaining([(MOONS, at(0, 5.0))], seeds(MOONS, 1)) is None
    assert Pace().remaining([], []) == 0.0


def test_a_trial_under_way_says_what_it_and_others_take() -> None:
    # 20 s alive, 50 steps of a second to come; the next takes 70 s, one after the other.
    assert Pace().remaining([(MOONS, at(50, 20.0, 1.0))], seeds(MOONS, 1)) == pytest.approx(120.0)


def test_the_likest_that_ended_counts() -> None:
    pace = Pace()
    pace.ended(CIRCLES, 1000.0)
    pace.ended(TWIN, 100.0)
    pace.ended(MOONS, 10.0)
    assert pace.remaining([], seeds(MOONS, 1, 2)) == pytest.approx(20.0)
    # Another solver of the same data and backend.
    longer = replace(MOONS, training=replace(MOONS.training, iterations=7))
    assert pace.remaining([], seeds(longer, 1)) == pytest.approx(10.0)
    assert pace.remaining([], seeds(replace(MOONS, backend="third"), 1)) == pytest.approx(55.0)


def test_trials_side_by_side_share_the_rest() -> None:
    pace = Pace()
    pace.ended(MOONS, 40.0)
    running = [(trial, at(10, 20.0)) for trial in seeds(MOONS, 1, 2)]
    # 20 s each under way and two of 40 s: 120 s on two places.
    assert pace.remaining(running, seeds(MOONS, 3, 4)) == pytest.approx(60.0)
    # The last one alone is not halved.
    assert pace.remaining([], seeds(MOONS, 5)) == pytest.approx(40.0)
