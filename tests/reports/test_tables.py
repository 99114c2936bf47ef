"""The tables of the report: numbers against the frame, words against the rules."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import pandas as pd
import pytest
from harness_reports.page.elements import Chart, Paragraph, Table
from harness_reports.sections.comparison import comparison
from harness_reports.sections.curves import curves
from harness_reports.sections.details import trials
from harness_reports.sections.failures import failures
from harness_reports.sections.gates import gate_results, gates
from harness_reports.sections.results import results_table
from harness_reports.trials.entries import Entry, by_dataset, entries_of
from harness_reports.trials.groups import groups_of
from harness_reports.trials.pairs import pairs_of, quality_verdict, speed_verdict
from published_records import FREY, Case, plan_of
from published_records import frame as frame_of_cases

from harness.planning.plan import Plan, PlannedTrial, Resources
from harness.records.frame import history_of
from harness.statistics import Interval
from harness.trial import DatasetRef, FixedSolver, Training, Trial

NAMES = ("torch", "jax")


@pytest.fixture(scope="session")
def entries(plan: Plan, frame: pd.DataFrame) -> tuple[Entry, ...]:
    return entries_of(plan, frame)


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row.cells] for row in table.rows]


def find(table: Table, *words: str) -> list[str]:
    (row,) = [row for row in texts(table) if row[: len(words)] == list(words)]
    return row


def digits_table(entries: tuple[Entry, ...]) -> Table:
    return results_table(by_dataset(entries)["digits"])


def test_results_are_mean_and_spread_over_seeds(
    entries: tuple[Entry, ...], frame: pd.DataFrame
) -> None:
    picked = frame.query("dataset == 'digits' and backend == 'jax' and regularizer == 'none'")
    values = picked[picked["solver"].str.startswith("rk4")]["metrics.test_bits_per_dim"]
    row = find(digits_table(entries), "rk4_38", "none", "jax")
    assert row[3] == f"{values.mean():.3f} ± {statistics.stdev(values):.3f}"
    assert row[4] == "2.450"
    assert row[8] == "n = 2:"


def test_one_seed_has_no_spread(entries: tuple[Entry, ...]) -> None:
    row = find(digits_table(entries), "dopri5", "none", "torch")
    assert "±" not in " ".join(row)
    assert row[8] == "n = 1 of 2:"


def test_failed_settings_say_so_and_nothing_is_blank(entries: tuple[Entry, ...]) -> None:
    row = find(digits_table(entries), "dopri5", "rnode.jacobian + rnode.kinetic", "jax")
    assert row[3] == "1 out of memory, 1 error"
    assert row[4:8] == ["not run"] * 4
    assert all(all(cells) for cells in texts(digits_table(entries)))


def test_the_lowest_mean_is_marked_once(entries: tuple[Entry, ...]) -> None:
    table = digits_table(entries)
    best = [row.cells[3] for row in table.rows if any(cell.best for cell in row.cells)]
    means = [
        float(cell.text.split()[0]) for row in table.rows if (cell := row.cells[3]).text[0] == "2"
    ]
    assert [float(cell.text.split()[0]) for cell in best] == [min(means)]


def test_skipped_trials_stay_visible(entries: tuple[Entry, ...]) -> None:
    table = results_table(by_dataset(entries)["8gaussians"])
    assert find(table, "dopri5", "none", "direct", "jax")[4] == "skipped"


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
    tables = {b.id: b for b in comparison(entries).blocks if isinstance(b, Table)}
    row = find(tables["quality-8gaussians"], "dopri5", "none", "torch − jax")
    picked = frame.query("dataset == '8gaussians' and regularizer == 'none'")
    picked = picked[picked["solver"].str.startswith("dopri5")]
    values = picked.pivot_table(index="seed", columns="backend", values="metrics.test_nll")
    assert row[3] == f"{(values['torch'] - values['jax']).mean():.4f}"
    assert row[5:] == ["2", "too few seeds"]


def test_a_failed_partner_is_named(entries: tuple[Entry, ...]) -> None:
    tables = {b.id: b for b in comparison(entries).blocks if isinstance(b, Table)}
    row = find(tables["quality-digits"], "dopri5", "rnode.jacobian + rnode.kinetic")
    assert row[3:] == ["not run", "not run", "0", "jax 1 out of memory, 1 error"]


@pytest.mark.parametrize(
    ("low", "high", "n", "words"),
    [
        (-0.2, -0.1, 3, "torch better"),
        (0.1, 0.2, 3, "jax better"),
        (-0.1, 0.2, 3, "no difference detected"),
        (0.1, 0.2, 2, "too few seeds"),
    ],
)
def test_quality_verdict(low: float, high: float, n: int, words: str) -> None:
    assert quality_verdict(Interval(n, (low + high) / 2, low, high, 0.95), NAMES) == words


@pytest.mark.parametrize(
    ("low", "high", "n", "words"),
    [
        (1.1, 1.3, 3, "jax faster"),
        (0.7, 0.9, 3, "torch faster"),
        (0.9, 1.1, 3, "no difference detected"),
        (1.1, 1.3, 2, "too few seeds"),
    ],
)
def test_speed_verdict(low: float, high: float, n: int, words: str) -> None:
    assert speed_verdict(Interval(n, (low + high) / 2, low, high, 0.95), NAMES) == words


def test_speed_only_from_exclusive_timings(entries: tuple[Entry, ...]) -> None:
    blocks = comparison(entries).blocks
    assert "speed-8gaussians" in {b.id for b in blocks if isinstance(b, Table)}
    assert "speed-digits" not in {b.id for b in blocks if isinstance(b, Table)}
    said = [b.text for b in blocks if isinstance(b, Paragraph) and b.text.startswith("digits")]
    assert said == [
        "digits: no speed verdict. 12 of 12 timings shared the machine with other trials; "
        "only a trial that runs alone measures its backend."
    ]


def test_speed_never_across_machines(entries: tuple[Entry, ...], frame: pd.DataFrame) -> None:
    moved = frame.copy()
    moved.loc[moved["backend"] == "jax", "environment.hardware_fingerprint"] = "other"
    plan = Plan("s", "", tuple(entry.planned for entry in entries))
    elsewhere = [e for e in entries_of(plan, moved) if e.labels["dataset"] == "8gaussians"]
    assert all(not pair.fair_seeds() for pair in pairs_of(elsewhere))
    said = [b.text for b in comparison(elsewhere).blocks if isinstance(b, Paragraph)]
    assert any("2 hardware fingerprints" in text for text in said)


def test_failures_have_reason_remedy_and_command(entries: tuple[Entry, ...]) -> None:
    tables = [b for b in failures(entries, "s.yaml").blocks if isinstance(b, Table)]
    failed, skipped = texts(tables[0]), texts(tables[1])
    assert [row[3] for row in failed] == ["diverged", "timeout", "out of memory", "error"]
    assert all(row[4] and row[5] for row in failed)
    commands = [row[6] for row in failed]
    assert [command.endswith(" --rerun") for command in commands] == [True, False, False, False]
    assert all(command.startswith("harness run s.yaml -k id=") for command in commands)
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
    table = results_table(entries_of(members, records))
    names = [(column.name, column.unit) for column in table.columns]
    assert ("negative ELBO", "bits/dim, ↓") in names
    assert "Gaussian" not in [name for name, _ in names]
    assert all(len(row.cells) == len(table.columns) for row in table.rows)
    assert find(table, "dopri5", "none", "torch")[3] == "4.400 ± 0.010"
    row = trials(entries_of(members, records)).blocks[0]
    assert isinstance(row, Table)
    assert texts(row)[0][4] == "1499.9900"


def test_curves_of_autoencoders_are_of_their_elbo() -> None:
    case = Case(FREY, {"test_neg_elbo": 1500.0})
    members = entries_of(plan_of((case,)), frame_of_cases((case,)))
    history = history_of(
        (entry.id, metric, step, 1500.0, 0)
        for entry in members
        for metric in ("neg_elbo", "val_neg_elbo")
        for step in (10, 20)
    )
    (chart,) = [block for block in curves(members, history).blocks if isinstance(block, Chart)]
    assert "negative ELBO, nats" in json.dumps(chart.spec)
    assert "NLL" not in json.dumps(chart.spec)
