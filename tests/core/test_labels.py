"""The axes of a trial and the line that names it."""

from __future__ import annotations

from harness.labels import label, trial_name
from harness.trial import AXES, AdaptiveSolver, DatasetRef, Trial

TRIAL = Trial(DatasetRef("moons", "09d92dd64d16d461"), "torch", AdaptiveSolver("dopri5"))


def test_axes_are_walked_and_printed_in_this_order() -> None:
    # The order of a plan, so of a run, and of the columns of every table.
    assert AXES[:4] == ("dataset", "backend", "solver", "regularizer")
    assert AXES[4:7] == ("model", "training", "evaluation")
    assert AXES[7:] == ("objective", "gradient", "engine", "precision", "seed")
    assert tuple(label(TRIAL)) == AXES


def test_a_trial_has_a_name_of_one_line() -> None:
    assert trial_name(TRIAL) == "moons torch dopri5 rtol=1e-05 atol=1e-05 none seed 0"
