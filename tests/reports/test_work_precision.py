"""Work and precision: the front, what is overhead-bound, and whose time is printed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness_reports.page.elements import Chart, Table
from harness_reports.sections.work_precision import work_precision_blocks
from harness_reports.trials.entries import Entry

from harness.planning.plan import PlannedTrial
from harness.specs.resources import Resources
from harness.trial import AdaptiveSolver, DatasetRef, EngineName, Evaluation, Trial

TRIAL = Trial(DatasetRef("moons", "0"), "torch", AdaptiveSolver("dopri5"))


def _entry(
    backend: str, engine: EngineName, tolerance: float, seconds: float, error: float, mode: str
) -> Entry:
    evaluation = Evaluation(solver=AdaptiveSolver("dopri5", tolerance, tolerance), engine=engine)
    trial = replace(TRIAL, backend=backend, evaluation=evaluation)
    record = {
        "status": "ok",
        "timing.mode": mode,
        "metrics.log_prob_error_median": error,
        "metrics.log_prob_error_99": 2 * error,
        "metrics.log_prob_error_max": 3 * error,
        "nfe.solve": 20.0,
    }
    for column, factor in (("timing.solve_s", 2.0), ("timing.solve_cpu_s", 1.0)):
        record |= {f"{column}.{name}": factor * seconds for name in ("median", "q25", "q75")}
    labels = {"dataset": "moons", "backend": backend}
    return Entry(PlannedTrial(trial, "finished", None, Resources()), labels, record)


def _entries(mode: str) -> list[Entry]:
    return [
        _entry("torch", "native", 1e-3, 0.02, 1e-4, mode),
        _entry("torch", "library", 1e-3, 0.05, 2e-4, mode),
        _entry("jax", "native", 1e-5, 0.30, 1e-6, mode),
        _entry("jax", "library", 1e-5, 0.60, 1e-6, mode),
    ]


@pytest.mark.parametrize(
    ("mode", "heading", "first"),
    [
        ("exclusive", "solve", "40.0 [40.0, 40.0]"),
        ("shared", "solve, processor", "20.0 [20.0, 20.0]"),
    ],
)
def test_the_table_names_the_front_and_what_is_overhead_bound(
    mode: str, heading: str, first: str
) -> None:
    chart, table, _ = work_precision_blocks(_entries(mode))
    assert isinstance(chart, Chart)
    assert isinstance(table, Table)
    assert table.columns[3].name == heading
    cells = [[cell.text for cell in row.cells] for row in table.rows]
    assert [row[1] for row in cells] == ["torch, native", "torchdiffeq", "jax, native", "diffrax"]
    assert cells[0][3] == first
    assert [row[-1] for row in cells] == [
        "front, overhead-bound",
        "overhead-bound" if mode == "shared" else "",
        "front",
        "",
    ]
    assert cells[0][4:8] == ["1.0e-04", "2.0e-04", "3.0e-04", "not asked for"]


def test_one_mode_shared_makes_all_times_those_of_the_processor() -> None:
    entries = [*_entries("exclusive")[:3], *_entries("shared")[3:]]
    _, table, _ = work_precision_blocks(entries)
    assert isinstance(table, Table)
    assert table.columns[3].name == "solve, processor"


def test_without_errors_there_is_no_section() -> None:
    entry = _entries("shared")[0]
    bare = replace(entry, record={"status": "ok"})
    assert list(work_precision_blocks([bare])) == []
