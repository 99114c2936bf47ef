"""Time to quality from curves whose answers are known.

Every trial validates after 10, 20, 30 and 40 steps and finds 4, 3, 2.5 and 2.25, plus its own
shift; a step takes the seconds of its setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from harness_reports.page.elements import Chart, Paragraph, Section, Table
from harness_reports.sections.reach import reach
from harness_reports.trials.entries import entries_of
from harness_reports.trials.groups import groups_of
from harness_reports.trials.quantities import NLL
from harness_reports.trials.reach import Reached, common_level, contrasts, curves_of

from harness.planning.plan import Plan, PlannedTrial
from harness.records.columns import row
from harness.records.frame import frame_of, history_of
from harness.specs.resources import Resources
from harness.trial import AdaptiveSolver, DatasetRef, FixedSolver, Trial

STEPS = (10, 20, 30, 40)
VALUES = (4.0, 3.0, 2.5, 2.25)
USUAL = AdaptiveSolver("dopri5")
BASE = Trial(dataset=DatasetRef("miniboone", "none"), backend="torch", solver=USUAL)


@dataclass(frozen=True)
class Run:
    """A trial that ended ok.

    Arguments:
        trial: The trial.
        step_s: Seconds of a step.
        shift: Added to all its validations.
        mode: Of its timing.
    """

    trial: Trial
    step_s: float
    shift: float = 0.0
    mode: str = "exclusive"


def report(runs: Sequence[Run]) -> tuple[Plan, pd.DataFrame, pd.DataFrame]:
    """Plan, frame and history of some runs."""
    planned = tuple(PlannedTrial(run.trial, "finished", None, Resources()) for run in runs)
    frame = frame_of(row(run.trial, result(run)) for run in runs)
    lines = [
        (run.trial.id, name, step, value, 1)
        for run in runs
        for step, found in zip(STEPS, VALUES, strict=True)
        for name, value in (("val_nll", found + run.shift), ("train_s", step * run.step_s))
    ]
    # A line of training alone is no validation.
    lines += [(run.trial.id, "train_s", 35, 35 * run.step_s, 1) for run in runs]
    return Plan("invented", "", planned), frame, history_of(lines)


def result(run: Run) -> dict[str, object]:
    return {
        "trial_id": run.trial.id,
        "status": "ok",
        "message": None,
        "metrics": {"gaussian_nll": {"value": 3.0, "unit": "nats", "n": 100}},
        "timing": {"mode": run.mode},
        "environment": {"hardware_fingerprint": "c0ffee12c0ff"},
    }


def section(runs: Sequence[Run]) -> Section:
    plan, frame, history = report(runs)
    return reach(entries_of(plan, frame), history)


def rows(found: Section, name: str) -> list[list[str]]:
    (table,) = [b for b in found.blocks if isinstance(b, Table) and b.id == name]
    return [[cell.text for cell in row.cells] for row in table.rows]


def seeds(trial: Trial, times: Sequence[float], **changes: object) -> list[Run]:
    """A run for each time of a step, one a seed."""
    return [
        Run(replace(trial, seed=seed), step_s, **changes)  # type: ignore[arg-type]
        for seed, step_s in enumerate(times)
    ]


JAX = replace(BASE, backend="jax")


def test_a_level_is_reached_at_the_first_validation_at_or_below_it() -> None:
    plan, frame, history = report([Run(BASE, 0.1)])
    (curve,) = curves_of(entries_of(plan, frame), history, NLL).values()
    assert [point.step for point in curve.points] == list(STEPS)
    assert curve.reach(3.0) == Reached(2.0, 20, 3.0)
    assert curve.reach(2.9) == Reached(3.0, 30, 2.5)
    assert curve.reach(2.2) is None
    assert curve.best == 2.25


def test_the_common_level_is_the_worst_of_the_best() -> None:
    plan, frame, history = report([Run(BASE, 0.1), Run(JAX, 0.1, shift=0.5)])
    found = curves_of(entries_of(plan, frame), history, NLL)
    assert common_level(found.values()) == 2.75
    assert common_level([]) is None


def test_the_table_has_the_gaussian_the_published_and_the_common_level() -> None:
    found = section([*seeds(BASE, (0.1, 0.2)), *seeds(JAX, (0.05, 0.05), shift=0.5)])
    (table,) = [b for b in found.blocks if isinstance(b, Table) and b.id == "reach-miniboone"]
    assert [c.name for c in table.columns if c.name.startswith("to ")] == [
        "to Gaussian 3.000",
        "to published (ffjord) 10.430",
        "to all reach 2.750",
    ]
    torch, jax = rows(found, "reach-miniboone")
    # 20 steps of 0.1 s and of 0.2 s: 2 s and 4 s; jax has 3.5, 3.0 and 2.75 after the first.
    assert torch[2:] == [
        "torch",
        "3.00 ± 1.41",
        "20 ± 0",
        "1.50 ± 0.71",
        "10 ± 0",
        "4.50 ± 2.12",
        "30 ± 0",
        "2.250",
        "exclusive",
    ]
    assert jax[2:] == [
        "jax",
        "1.50 ± 0.00",
        "30 ± 0",
        "0.500 ± 0.000",
        "10 ± 0",
        "2.00 ± 0.00",
        "40 ± 0",
        "2.750",
        "exclusive",
    ]


def test_a_level_that_some_seeds_miss_says_so() -> None:
    runs = seeds(BASE, (0.1, 0.1))
    runs[1] = replace(runs[1], shift=1.0)
    assert rows(section(runs), "reach-miniboone")[0][3:5] == ["2.00 (1 of 2)", "20"]
    missed = seeds(BASE, (0.1,), shift=1.0)
    assert rows(section(missed), "reach-miniboone")[0][3:5] == ["not reached"] * 2


def test_trainings_that_differ_in_one_thing_are_paired_by_seed() -> None:
    """Seconds of every seed differ by a factor of 2, within it by less than 1 %."""
    found = section([*seeds(BASE, (1.0, 2.0, 4.0)), *seeds(JAX, (0.5, 1.01, 1.98))])
    (line,) = rows(found, "reach-paired-miniboone")
    assert line[:2] == ["backend", "jax / torch"]
    assert line[-3:] == ["0.50 [0.49, 0.51]", "3", "jax sooner"]


def test_no_verdict_where_the_machine_was_shared_or_seeds_are_few() -> None:
    shared = section(
        [*seeds(BASE, (1.0, 2.0, 4.0)), *seeds(JAX, (0.5, 1.01, 1.98), mode="shared")]
    )
    assert rows(shared, "reach-paired-miniboone")[0][-1] == "no verdict: shared the machine"
    few = section([*seeds(BASE, (1.0, 2.0)), *seeds(JAX, (0.5, 1.0))])
    assert rows(few, "reach-paired-miniboone")[0][-2:] == ["2", "too few seeds"]


def test_contrasts_are_of_one_factor_each() -> None:
    warm = replace(BASE, solver=replace(USUAL, first_step="warm"))
    trials = [
        BASE,
        JAX,
        warm,
        replace(BASE, solver=FixedSolver("rk4_38", 8)),
        replace(BASE, regularizer={"rnode.kinetic": 0.01}),
        # Two things at once.
        replace(warm, regularizer={"rnode.kinetic": 0.01}, backend="jax"),
    ]
    plan, frame, _ = report([Run(trial, 0.1) for trial in trials])
    found = contrasts(groups_of(entries_of(plan, frame)))
    assert {(each.factor, each.words) for each in found} == {
        ("backend", ("jax", "torch")),
        ("first step", ("warm", "heuristic")),
        ("solver", ("rk4_38 steps=8", "dopri5 rtol=1e-05 atol=1e-05")),
        ("regularizer", ("rnode.kinetic=0.01", "none")),
    }


def test_the_chart_has_every_validation_and_a_rule_for_each_level() -> None:
    found = section([*seeds(BASE, (0.1, 0.2)), *seeds(JAX, (0.05, 0.05))])
    (chart,) = [block for block in found.blocks if isinstance(block, Chart)]
    data = chart.spec["datasets"]["rows"]
    assert len(data) == 4 * len(STEPS)
    assert data[1]["seconds"] == 2.0
    assert str(chart.spec).count("strokeDash': [2, 3]") == 3


def test_without_curves_the_section_says_so() -> None:
    plan, frame, history = report([Run(BASE, 0.1)])
    (block,) = reach(entries_of(plan, frame), history.iloc[:0]).blocks
    assert isinstance(block, Paragraph)
    assert block.text == "No finished trial has a validation curve."
