"""`harness results`: what a suite found, as the table and the answers of its report."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from harness.errors import HarnessError, InputError, Problem
from harness.planning.plan import Plan, PlannedTrial, Resources
from harness.records.columns import row
from harness.records.folder import DEFAULT_ROOT, read_records

__all__ = ["recorded_plan", "results", "run_command"]

_PIPE_WIDTH = 200


def results(plan: Plan, root: Path) -> str:
    """The table of results and the answers below it.

    Arguments:
        plan: The trials.
        root: The run root.

    Raises:
        HarnessError: A package that judges results is not installed.
        RecordError: A record is damaged.
    """
    try:
        from harness_reports import results_text
    except ModuleNotFoundError as error:
        raise HarnessError(
            f"the results need {error.name}, which is not installed. "
            "Run: pip install 'cnf-harness[report]'"
        ) from error
    ids = [planned.trial.id for planned in plan.trials]
    rows = [row(record.trial, record.result) for record in read_records(root, ids)]
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else _PIPE_WIDTH
    command = run_command(plan, root)
    return results_text(plan, rows, command, root, width=width, colour=terminal)


def run_command(plan: Plan, root: Path, where: str | None = None) -> str:
    """The command that runs the suite, or what matches a filter of it, under this root."""
    options = [] if where is None else ["-k", where]
    options += [] if root == DEFAULT_ROOT else ["--root", str(root)]
    return shlex.join(["harness", "run", plan.source or plan.suite, *options])


def recorded_plan(root: Path) -> Plan:
    """All recorded trials of a root as one plan, whatever suite they belong to.

    Raises:
        InputError: There are none.
        RecordError: A record is damaged.
    """
    planned = tuple(
        PlannedTrial(record.trial, "finished", None, Resources()) for record in read_records(root)
    )
    if not planned:
        raise InputError(
            [
                Problem(
                    str(root),
                    "no trial has been recorded here",
                    fix="harness run SUITE records some; --root names another run root",
                )
            ]
        )
    return Plan("all", f"All trials recorded under {root}.", planned, source="SUITE")
