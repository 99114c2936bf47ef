"""Times the report of many invented records, and says what memory it took.

    python tests/benchmarks/bench_report.py --trials 10000

The records are 25 datasets x two backends x 20 solvers x 2 regularizers x 5 seeds, with learning
curves, as `finished_run` invents them. Only the report is timed, in a process of its own, without
the reading of the records.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.planning.plan import Plan, PlannedTrial, Resources
from harness.records.columns import row
from harness.records.frame import frame_of, history_of
from harness.trial import AdaptiveSolver, DatasetRef, ModelSpec, Training, Trial

SEEDS, SOLVERS = 5, 20
POINTS = 20


def trials(count: int) -> Iterator[Trial]:
    """Invented trials, dataset by dataset."""
    base = Trial(DatasetRef("d", "d"), "torch", AdaptiveSolver("dopri5"), model=ModelSpec())
    regularizers: tuple[dict[Any, float], ...] = ({}, {"rnode.kinetic": 0.01})
    numbers = itertools.product(
        range(count),
        range(SOLVERS),
        regularizers,
        ("torch", "jax"),
        range(SEEDS),
    )
    for number, solver, regularizer, backend, seed in itertools.islice(numbers, count):
        yield replace(
            base,
            dataset=DatasetRef(f"data-{number}", "d"),
            solver=AdaptiveSolver("dopri5", rtol=10.0 ** -(2 + solver / 4)),
            regularizer=regularizer,
            training=Training(iterations=1000),
            backend=backend,
            seed=seed,
        )


def records(planned: list[Trial]) -> tuple[list[dict[str, Any]], list[tuple[Any, ...]]]:
    """The rows of their records, and those of their curves."""
    rng = np.random.default_rng(0)
    rows, curves = [], []
    for trial in planned:
        level = 2.0 + 0.01 * trial.seed + 1e-7 * float(rng.standard_normal())
        seconds = 0.02 * float(rng.uniform(0.9, 1.1))
        result = {
            "trial_id": trial.id,
            "status": "ok",
            "metrics": {"test_nll": {"value": level, "unit": "nats", "n": 1000}},
            "timing": {"mode": "shared", "step_s": {"median": seconds}, "train_s": 20.0},
            "nfe": {"test": {"forward": {"mean": float(rng.uniform(20, 60))}}},
            "memory": {"peak_host_bytes": 400e6},
            "environment": {"cpu_model": "Invented CPU", "python": "3.11.2"},
            "attempts": 1,
        }
        rows.append(dict(row(trial, result)))
        for step in range(POINTS):
            value = level + 2.0 ** -(step / 2)
            curves += [(trial.id, name, 50 * step, value, 0) for name in ("nll", "val_nll")]
            curves.append((trial.id, "nfe_forward", 50 * step, 20.0 + step, 0))
    return rows, curves


def main() -> None:
    """Prints seconds, memory and size of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=10_000)
    count: int = parser.parse_args().trials
    planned = list(trials(count))
    rows, curves = records(planned)
    plan = Plan(
        "invented",
        "Invented records.",
        tuple(PlannedTrial(trial, "finished", None, Resources()) for trial in planned),
    )
    frame, history = frame_of(rows), history_of(curves)
    del rows, curves
    from harness_reports import write_report

    with tempfile.TemporaryDirectory() as out:
        before, processor = time.perf_counter(), time.process_time()
        page = write_report(plan, frame, Path(out), root=Path(out), history=history)
        wall, busy = time.perf_counter() - before, time.process_time() - processor
        size = page.stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"trials           {count:,}")
    print(f"report, wall     {wall:.1f} s")
    print(f"report, cpu      {busy:.1f} s")
    print(f"peak memory      {peak / 2**20:.0f} MiB, records included")
    print(f"index.html       {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
