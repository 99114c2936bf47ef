"""Verdicts on backends from hand-made records whose answers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from harness_reports.sections.answers import agreement_sentences
from harness_reports.sections.comparison import verdict_words
from harness_reports.sections.results import results_blocks, results_table
from harness_reports.sections.speed import step_time_sentences
from harness_reports.summary import results_text, summarize
from harness_reports.trials.comparisons import Comparison, compare, outcomes
from harness_reports.trials.entries import Entry, entries_of

from harness.planning.plan import Plan, PlannedTrial, Resources
from harness.records.columns import row
from harness.records.verified import PARITY_BAR
from harness.trial import DatasetRef, FixedSolver, Trial

BASE = Trial(DatasetRef("moons", "d"), "torch", FixedSolver("rk4_38", 8))
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Made:
    """One hand-made record; None for the NLL is a trial that diverged."""

    backend: str
    seed: int
    nll: float | None
    steps: int = 8
    step_s: float = 0.01
    mode: str = "exclusive"
    hardware: str = "one"

    @property
    def trial(self) -> Trial:
        solver = FixedSolver("rk4_38", self.steps)
        return replace(BASE, backend=self.backend, seed=self.seed, solver=solver)

    @property
    def result(self) -> dict[str, Any]:
        ok = self.nll is not None
        return {
            "trial_id": self.trial.id,
            "status": "ok" if ok else "diverged",
            "metrics": {"test_nll": {"value": self.nll, "unit": "nats"}} if ok else {},
            "timing": {"mode": self.mode, "step_s": {"median": self.step_s}},
            "environment": {"hardware_fingerprint": self.hardware},
        }


def pairs(
    torch: Sequence[float | None], jax: Sequence[float | None], steps: int = 8
) -> list[Made]:
    """Records of both backends, seeds counted from 0."""
    return [
        Made(backend, seed, value, steps)
        for backend, values in (("torch", torch), ("jax", jax))
        for seed, value in enumerate(values)
    ]


def plan_of(made: Sequence[Made], waiting: Sequence[Made] = ()) -> Plan:
    done = [PlannedTrial(one.trial, "finished", None, Resources()) for one in made]
    rest = [PlannedTrial(one.trial, "to_run", None, Resources()) for one in waiting]
    return Plan("s", "", (*done, *rest))


def rows_of(made: Sequence[Made]) -> list[Mapping[str, Any]]:
    return [row(one.trial, one.result) for one in made]


def entries(made: Sequence[Made], waiting: Sequence[Made] = ()) -> tuple[Entry, ...]:
    return entries_of(plan_of(made, waiting), rows_of(made))


def only(made: Sequence[Made], waiting: Sequence[Made] = ()) -> Comparison:
    (found,) = compare(entries(made, waiting))
    return found


def said(made: Sequence[Made], waiting: Sequence[Made] = ()) -> str:
    return " ".join(agreement_sentences(compare(entries(made, waiting))))


def results(made: Sequence[Made]) -> list[list[str]]:
    found = entries(made)
    return [[c.text for c in r.cells] for r in results_table(found, compare(found)).rows]


def marked(made: Sequence[Made]) -> list[tuple[str, ...]]:
    found = entries(made)
    table = results_table(found, compare(found))
    names = [column.name for column in table.columns]
    picked = [names.index(name) for name in ("solver", "backend")]
    return [
        tuple(r.cells[i].text for i in picked)
        for r in table.rows
        if any(cell.best for cell in r.cells)
    ]


def test_a_certain_difference_of_no_size_is_none() -> None:
    # torch is better by 62e-9 nats in every seed, to within 1e-9.
    torch = [2.0, 2.0045, 1.9955]
    jax = [2.0 + 61e-9, 2.0045 + 62e-9, 1.9955 + 63e-9]
    found = only(pairs(torch, jax))
    assert (found.outcome, found.better) == ("same", None)
    # Spread 0.0045, a tenth of it rounded down.
    assert found.margin == pytest.approx(4e-4)
    assert verdict_words(found) == "same within 0.0004"
    assert said(pairs(torch, jax)) == (
        "torch against jax: the same: moons within 0.0004 nats (another seed moves it by 0.0045)."
    )


@pytest.mark.parametrize(("shift", "better"), [(0.02, "torch"), (-0.02, "jax")])
def test_better_is_beyond_the_margin(shift: float, better: str) -> None:
    torch = [2.0, 2.004, 1.996]
    jax = [v + shift + e for v, e in zip(torch, (0.0, 1e-4, -1e-4), strict=True)]
    assert only(pairs(torch, jax)).better == better
    assert f"{better} is better on moons" in said(pairs(torch, jax))


def test_two_seeds_give_an_answer() -> None:
    assert only(pairs([2.0, 2.01], [2.0 + 1e-7, 2.01 + 2e-7])).outcome == "same"
    found = only(pairs([2.0, 2.01], [2.02, 2.0]))
    assert found.outcome == "undecided"
    assert "± 0.19 nats" in said(pairs([2.0, 2.01], [2.02, 2.0]))


def test_one_seed_gives_its_difference_and_no_verdict() -> None:
    found = only(pairs([2.0], [2.03]))
    assert found.outcome == "one pair"
    assert verdict_words(found) == "one pair, no verdict"
    assert "differ by at most 0.03 nats" in said(pairs([2.0], [2.03]))
    assert found.margin == pytest.approx(2.015 * PARITY_BAR["float32"])


def test_unequal_seeds_are_compared_where_both_are() -> None:
    made = pairs([2.0, 2.004, 1.996], [2.0, 2.004])
    waiting = [Made("jax", 2, None)]
    found = only(made, waiting)
    assert (found.outcome, len(found.differences), found.planned) == ("same", 2, 3)
    assert not found.complete
    assert "So far 2 of 3 pairs of trials have ended ok." in said(made, waiting)
    # Means over other seeds differ although the backends do not: two rows.
    assert [("torch" in line, "jax" in line) for line in results(made)] == [
        (True, False),
        (False, True),
    ]


def test_diverged_trials_leave_no_pair() -> None:
    found = only(pairs([2.0, 2.01], [None, None]))
    assert found.outcome == "no pair"
    assert verdict_words(found) == "jax diverged"
    assert "nothing is known yet" in said(pairs([2.0, 2.01], [None, None]))


def test_backends_that_are_the_same_share_a_row() -> None:
    made = pairs([2.0, 2.004, 1.996], [2.0, 2.004, 1.996 + 1e-8])
    (line,) = results(made)
    assert "torch = jax" in line
    assert line[1] == "2.000 ± 0.004"
    assert [r[1] for r in results(pairs([2.0, 2.0], [2.5, 2.6]))] == ["2.00 ± 0.00", "2.55 ± 0.07"]


def test_the_mark_tells_settings_apart_not_equal_backends() -> None:
    good = pairs([2.0, 2.01, 1.99], [2.0, 2.01, 1.99])
    worse = pairs([2.5, 2.51, 2.49], [2.5, 2.51, 2.49], steps=4)
    assert marked([*good, *worse]) == [("rk4_38 steps=8", "torch = jax")]
    assert marked(good) == []


def test_the_mark_compares_equal_seeds_only() -> None:
    # Seed 2 is an easy one, and the 4 steps alone have it: the 8 steps do not win without it.
    whole = pairs([2.0, 2.01, 1.0], [2.0, 2.01, 1.0], steps=4)
    part = pairs([1.9, 1.91, None], [1.9, 1.91, None])
    other = pairs([2.2, 2.21, 1.2], [2.2, 2.21, 1.2], steps=2)
    assert marked([*whole, *part, *other]) == [("rk4_38 steps=4", "torch = jax")]


def test_many_comparisons_are_corrected() -> None:
    # p = 0.04 alone: enough for one comparison, not for twenty.
    one = [0.0, 0.0006, -0.0006]
    assert outcomes([one], [0.0012]) == ["same"]
    assert outcomes([one] * 20, [0.0012] * 20) == ["undecided"] * 20


def test_what_has_not_run_is_one_line() -> None:
    done = pairs([2.0, 2.01], [2.0, 2.01])
    waiting = pairs([None, None], [None, None], steps=4)
    found = entries(done, waiting)
    table, _, rest = results_blocks(found, compare(found))
    assert "moons (2 of 3); 4 trials in all" in getattr(rest, "text", "")
    assert len(getattr(table, "rows", ())) == 1


def timed(torch: Sequence[float], jax: Sequence[float], **more: str) -> list[Made]:
    return [
        Made(backend, seed, 2.0, step_s=value, **more)  # type: ignore[arg-type]
        for backend, values in (("torch", torch), ("jax", jax))
        for seed, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("torch", "jax", "words"),
    [
        ([0.02, 0.0201, 0.0199], [0.01, 0.01, 0.01], "jax faster, torch/jax = 2.00"),
        ([0.01, 0.01, 0.01], [0.02, 0.0201, 0.0199], "torch faster, torch/jax = 0.50"),
        ([0.01, 0.01, 0.01], [0.01, 0.01001, 0.01], "same within 5%, torch/jax = 1.00"),
        ([0.01, 0.02], [0.01, 0.01], "undecided, torch/jax = 1.41"),
        ([0.02], [0.01], "one pair, torch/jax = 2.00 (one pair)"),
    ],
)
def test_speed(torch: list[float], jax: list[float], words: str) -> None:
    assert words in " ".join(step_time_sentences(entries(timed(torch, jax)), "again"))


def test_a_loaded_machine_and_mixed_hardware_say_nothing_of_speed() -> None:
    loaded = entries(timed([0.02, 0.02], [0.01, 0.01], mode="shared"))
    assert "4 of 4 timings shared the machine" in step_time_sentences(loaded, "again")[0]
    assert step_time_sentences(loaded, "again")[1] == "To measure it: again"
    mixed = [replace(one, hardware=one.backend) for one in timed([0.02, 0.02], [0.01, 0.01])]
    assert "different machines (2 hardware" in step_time_sentences(entries(mixed), "again")[0]


def test_a_terminal_gets_the_table_and_the_answers() -> None:
    made = pairs([2.0, 2.004, 1.996], [2.0, 2.004, 1.996])
    text = results_text(plan_of(made), rows_of(made), "harness run s", None, width=120)
    assert "2.000\u00a0±\u00a00.004" in text
    assert "Do the backends agree? torch against jax: the same: moons within" in text
    assert "\x1b" not in text
    assert all(len(line) <= 120 for line in text.split("\n\n")[0].splitlines())


def test_measurements_of_speed_come_before_the_steps_of_trials() -> None:
    made = timed([0.02, 0.02], [0.01, 0.01], mode="shared")
    found = summarize(plan_of(made), rows_of(made), "run", ["jax is 2.0 times as fast."])
    (answer,) = [one for one in found.answers if one.question == "Which backend is faster?"]
    assert answer.sentences == ("jax is 2.0 times as fast.",)
