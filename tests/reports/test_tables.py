"""The tables of the report: numbers against the frame, words against the rules."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import pandas as pd
import pytest
from harness_reports.page.elements import Chart, Paragraph, Table
from harness_reports.sections.comparison import comparison_blocks
from harness_reports.sections.cost import cost_blocks
from harness_reports.sections.curve_data import curve_table, nats_to_unit
from harness_reports.sections.curves import curve_blocks
from harness_reports.sections.details import trials
from harness_reports.sections.failures import failures
from harness_reports.sections.gates import gate_results, gates
from harness_reports.sections.results import results_blocks, results_table
from harness_reports.sections.speed import speed_blocks, step_time_sentences
from harness_reports.trials.comparisons import compare
from harness_reports.trials.entries import Entry, entries_of, settings_note
from harness_reports.trials.groups import groups_of
from harness_reports.trials.pairs import pairs_of
from harness_reports.trials.quantities import quantity_of
from published_records import FREY, Case, plan_of
from published_records import frame as frame_of_cases

from harness.planning.plan import Plan, PlannedTrial, Resources
from harness.records.frame import history_of
from harness.trial import DatasetRef, FixedSolver, Training, Trial


@pytest.fixture(scope="session")
def entries(plan: Plan, frame: pd.DataFrame) -> tuple[Entry, ...]:
    return entries_of(plan, frame)


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row.cells] for row in table.rows]


def line(table: Table, *words: str) -> list[str]:
    """The one row that has all these cells."""
    (row,) = [row for row in texts(table) if set(words) <= set(row)]
    return row


def find(table: Table, *words: str) -> list[str]:
    (row,) = [row for row in texts(table) if row[: len(words)] == list(words)]
    return row


def results(entries: tuple[Entry, ...]) -> Table:
    return results_table(entries, compare(entries))


def test_results_are_mean_and_spread_over_seeds(
    entries: tuple[Entry, ...], frame: pd.DataFrame
) -> None:
    picked = frame.query("dataset == 'digits' and backend == 'jax' and regularizer == 'none'")
    values = picked[picked["solver"].str.startswith("rk4")]["metrics.test_bits_per_dim"]
    row = line(results(entries), "digits", "rk4_38", "none", "jax")
    mean, spread = row[1].split(" ± ")
    digits = len(mean.partition(".")[2])
    assert mean == f"{values.mean():.{digits}f}"
    assert spread == f"{statistics.stdev(values):.{digits}f}"
    assert row[2] == "test bits/dim"
    assert row[-1] == "n = 2:"


def test_one_seed_has_no_spread(entries: tuple[Entry, ...]) -> None:
    row = line(results(entries), "digits", "dopri5", "none", "torch")
    assert "±" not in row[1]
    assert row[-1] == "n = 1 of 2:"


def test_a_mean_over_versions_is_marked(entries: tuple[Entry, ...]) -> None:
    def under(entry: Entry) -> Entry:
        other = entry.labels["backend"] == "jax" and entry.seed == 1
        changed = {"environment.jax": "0.4.30"} if other else {}
        return replace(entry, record={**entry.record, **changed})

    assert not any("mixed" in text for row in texts(results(entries)) for text in row)
    mixed = tuple(map(under, entries))
    row = line(results(mixed), "digits", "rk4_38", "none", "jax")
    assert row[-1] == "n = 2, mixed versions:"
    assert "mixed" not in line(results(mixed), "digits", "dopri5", "none", "torch")[-1]
    (warning,) = [
        block.text
        for block in results_blocks(mixed, compare(mixed))
        if isinstance(block, Paragraph) and block.tone == "bad"
    ]
    assert "jax 0.10.2, 0.4.30" in warning


def test_failed_settings_say_so_and_nothing_is_blank(entries: tuple[Entry, ...]) -> None:
    row = line(results(entries), "digits", "dopri5", "rnode.jacobian + rnode.kinetic", "jax")
    assert row[1] == "1 out of memory, 1 error"
    assert all(all(cells) for cells in texts(results(entries)))


def test_skipped_trials_stay_visible(entries: tuple[Entry, ...]) -> None:
    assert line(results(entries), "8gaussians", "direct", "none", "jax")[1] == "skipped"


def test_trials_that_differ_elsewhere_are_never_averaged() -> None:
    base = Trial(DatasetRef("moons", "d"), "torch", FixedSolver("rk4_38", 8))
    longer = replace(base, training=Training(iterations=2000))
    sharded = replace(base, shards=2)
    trials = [replace(t, seed=s) for t in (base, longer, sharded) for s in (0, 1)]
    plan = Plan("s", "", tuple(PlannedTrial(t, "to_run", None, Resources()) for t in trials))
    groups = groups_of(entries_of(plan, pd.DataFrame({"trial_id": []})))
    assert [len(group.entries) for group in groups] == [2, 2, 2]
    names = {tuple(group.labels.values()) for group in groups}
    assert len(names) == 3
    assert {group.labels.get("variant") for group in groups} == {None, "shards=1", "shards=2"}


def test_quality_is_paired_by_seed(entries: tuple[Entry, ...], frame: pd.DataFrame) -> None:
    (one,) = [
        one
        for one in compare(entries)
        if one.dataset == "8gaussians"
        and one.differences
        and one.pair.first.settings(("solver", "regularizer")) == ("dopri5", "none")
    ]
    picked = frame.query("dataset == '8gaussians' and regularizer == 'none'")
    picked = picked[picked["solver"].str.startswith("dopri5")]
    values = picked.pivot_table(index="seed", columns="backend", values="metrics.test_nll")
    assert one.differences == pytest.approx(list(values["torch"] - values["jax"]))


def test_a_failed_partner_is_named(entries: tuple[Entry, ...]) -> None:
    (table,) = [b for b in comparison_blocks(compare(entries)) if isinstance(b, Table)]
    row = line(table, "digits", "dopri5", "rnode.jacobian + rnode.kinetic")
    assert row[1:3] == ["jax 1 out of memory, 1 error", "none"]
    assert row[-1] == "0 of 2"


def test_speed_only_from_exclusive_timings(entries: tuple[Entry, ...]) -> None:
    (table,) = [b for b in speed_blocks(entries) if isinstance(b, Table)]
    assert {row[0] for row in texts(table)} == {"8gaussians"}
    digits = [e for e in entries if e.labels["dataset"] == "digits"]
    assert list(speed_blocks(digits)) == []
    assert step_time_sentences(digits, "harness run s.yaml --exclusive") == (
        "Not known: speed was not measured alone, 12 of 12 timings shared the machine with other "
        "trials.",
        "To measure it: harness run s.yaml --exclusive",
    )


def test_speed_never_across_machines(entries: tuple[Entry, ...], frame: pd.DataFrame) -> None:
    moved = frame.copy()
    moved.loc[moved["backend"] == "jax", "environment.hardware_fingerprint"] = "other"
    plan = Plan("s", "", tuple(entry.planned for entry in entries))
    elsewhere = [e for e in entries_of(plan, moved) if e.labels["dataset"] == "8gaussians"]
    assert all(not pair.fair_seeds() for pair in pairs_of(elsewhere))
    assert "2 hardware fingerprints" in " ".join(step_time_sentences(elsewhere, "again"))


def test_failures_have_reason_remedy_and_command(entries: tuple[Entry, ...]) -> None:
    tables = [
        b for b in failures(entries, "harness run s.yaml --root r").blocks if isinstance(b, Table)
    ]
    failed, skipped = texts(tables[0]), texts(tables[1])
    assert [row[3] for row in failed] == ["diverged", "timeout", "out of memory", "error"]
    assert all(row[4] and row[5] for row in failed)
    commands = [row[6] for row in failed]
    assert [command.endswith(" --rerun") for command in commands] == [True, False, False, False]
    assert all(command.startswith("harness run s.yaml --root r -k id=") for command in commands)
    assert [row[1] for row in skipped] == ["2"]


def test_gates_count_what_they_bind(plan: Plan, entries: tuple[Entry, ...]) -> None:
    section = gates(gate_results(plan, entries))
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert [row[2:5] + row[6:] for row in texts(table)] == [
        ["15", "0", "1", "incomplete"],
        ["12", "0", "4", "incomplete"],
    ]


def test_autoencoders_are_judged_by_their_elbo_and_have_no_gaussian() -> None:
    case = Case(FREY, {"test_neg_elbo": 1500.0, "test_neg_elbo_bits_per_dim": 4.4})
    records, members = frame_of_cases((case,)), plan_of((case,))
    table = results(entries_of(members, records))
    assert "Gaussian" not in [column.name for column in table.columns]
    assert all(len(row.cells) == len(table.columns) for row in table.rows)
    row = line(table, "dopri5", "none", "torch = jax")
    assert row[1:3] == ["4.400 ± 0.010", "negative ELBO, bits/dim"]
    all_trials = trials(entries_of(members, records), "r").blocks[0]
    assert isinstance(all_trials, Table)
    assert texts(all_trials)[0][4] == "1499.9900"
    assert texts(all_trials)[0][-1].startswith("r/trials/")


def test_curves_of_autoencoders_are_of_their_elbo() -> None:
    case = Case(FREY, {"test_neg_elbo": 1500.0})
    members = entries_of(plan_of((case,)), frame_of_cases((case,)))
    history = history_of(
        (entry.id, metric, step, 1500.0, 0)
        for entry in members
        for metric in ("neg_elbo", "val_neg_elbo")
        for step in (10, 20)
    )
    (chart,) = [block for block in curve_blocks(members, history) if isinstance(block, Chart)]
    assert "negative ELBO, nats" in json.dumps(chart.spec)
    assert "NLL" not in json.dumps(chart.spec)


def test_a_dataset_has_one_unit_before_and_after_it_has_run(
    plan: Plan, entries: tuple[Entry, ...]
) -> None:
    nothing = entries_of(plan, [])
    for name, unit in (("digits", "bits/dim"), ("8gaussians", "nats")):
        for some in (nothing, entries):
            members = [e for e in some if e.labels["dataset"] == name]
            assert quantity_of(members).unit == unit


def test_curves_are_in_the_unit_of_the_tables(
    entries: tuple[Entry, ...], curves: pd.DataFrame
) -> None:
    digits = [e for e in entries if e.labels["dataset"] == "digits"]
    table = curve_table(digits, curves, 100)
    last = table[(table["split"] == "validation") & (table["step"] == 1000)]
    results = [e.number("metrics.test_bits_per_dim") for e in digits if e.ok]
    # The invented test is 0.2 % above the last validation.
    assert max(last["high"]) * 1.002 == pytest.approx(max(v for v in results if v is not None))
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert table["seeds"].max() == 2
    # Before anything has ended, the declared shape says the same.
    unrun = [replace(entry, record={}) for entry in digits]
    assert nats_to_unit(unrun) == pytest.approx(nats_to_unit(digits))


def test_curves_of_seeds_that_wrote_at_other_steps_are_means_over_the_seeds() -> None:
    trials = [
        Trial(DatasetRef("moons", "d"), "torch", FixedSolver("rk4_38", 8), seed=seed)
        for seed in (0, 1)
    ]
    planned = tuple(PlannedTrial(trial, "finished", None, Resources()) for trial in trials)
    rows = [{"trial_id": trial.id, "status": "ok"} for trial in trials]
    written = {0: (range(1, 41, 2), 10.0), 1: (range(2, 41, 2), 30.0)}
    history = pd.DataFrame(
        [
            (trial.id, step, "nfe_forward", value)
            for trial in trials
            for steps, value in [written[trial.seed]]
            for step in steps
        ],
        columns=["trial_id", "step", "metric", "value"],
    )
    table = curve_table(entries_of(Plan("s", "", planned), rows), history, 100)
    assert len(table) == 20
    assert set(table["seeds"]) == {2}
    assert set(zip(table["value"], table["low"], table["high"], strict=True)) == {(20, 10, 30)}


def test_gradient_auto_is_shown_as_what_it_chose() -> None:
    trial = Trial(DatasetRef("moons", "d"), "torch", FixedSolver("rk4_38", 8), gradient="auto")
    plan = Plan("s", "", (PlannedTrial(trial, "finished", None, Resources()),))
    rows = [{"trial_id": trial.id, "status": "ok", "environment.gradient": "checkpoint"}]
    assert groups_of(entries_of(plan, rows))[0].settings(["gradient"]) == ("auto: checkpoint",)
    assert "Gradient auto: checkpoint" in settings_note(entries_of(plan, rows))
    assert groups_of(entries_of(plan, []))[0].settings(["gradient"]) == ("auto",)


def test_cold_and_warm_compilations_stand_apart(entries: tuple[Entry, ...]) -> None:
    table = cost_blocks(entries)[0]
    assert isinstance(table, Table)
    names = [column.name for column in table.columns]
    cold, warm = names.index("compile, cold"), names.index("compile, warm")
    found = {tuple(row[i] for i in (names.index("backend"), cold, warm)) for row in texts(table)}
    assert ("torch", "none", "none") in found
    assert ("jax", "2.40", "1.40") in found
    assert ("jax", "2.40", "no seed") in found
