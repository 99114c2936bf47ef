"""`harness run`: the plan of a suite, its trials, its timings, what came out, the report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from harness.commands.estimate import require_within_budget
from harness.commands.outcome import outcome
from harness.commands.plan_text import plan_totals
from harness.commands.report import report
from harness.commands.results import results, run_command
from harness.commands.timing_text import timing_lines
from harness.commands.views import outcome_text
from harness.errors import HarnessError
from harness.executors.run import Execution
from harness.executors.run import run as run_trials
from harness.planning.estimate import estimate_plan
from harness.planning.plan import Plan, plan_suite, require_backends, require_runnable, select
from harness.planning.shards import Shard, part_of, shard_of
from harness.records.estimates import write_estimates
from harness.timing.stage import run_timings

__all__ = ["INTERRUPTED", "run"]

_T = TypeVar("_T")

INTERRUPTED = 130
"""Exit code, as shells have it for a program that Ctrl-C ended."""


def run(
    suite: str,
    root: Path,
    how: Execution,
    *,
    where: str | None = None,
    rerun: bool = False,
    shard: str | None = None,
    timing: bool = False,
    with_report: bool = True,
    yes: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Runs the trials of a suite, times its backends side by side if it asks for that, says what
    came out and writes the report of the suite.

    Arguments:
        suite: Name of a built-in suite, or a file.
        root: The run root.
        how: Who runs the trials, and on what.
        where: Runs only the trials that match this filter; the report is of all.
        rerun: Runs finished trials again.
        shard: Runs only this part of them (`harness.planning.shards`), and nothing that is of the
            whole suite: no timings, no mirror, no report.
        timing: Time the settings, too, that an earlier budget did not reach or that failed.
        with_report: Write the report.
        yes: Start even if the trials are expected to take more than the suite's budget.
        say: Prints a text of one or more lines.

    Returns:
        The exit code: 0 if all trials that were to run or had been run ended ok, 1 if some did
        not, 3 if they did but a gate was not kept, 130 if the run was interrupted.

    Raises:
        InputError: The suite, the filter or an option is invalid, no trial can run, or the budget
            would not be kept.
        BackendNotInstalled: A trial to run needs a framework that is not installed.
        RecordError: A record cannot be read, or the run root cannot be written.
        HarnessError: The executor cannot start.
    """
    asked = shard_of(shard, where)
    whole = plan_suite(suite, root)
    chosen = select(whole, root, where, rerun)
    require_runnable(chosen)
    plan = chosen if asked is None else part_of(chosen, asked)
    require_backends(plan)
    # The budget is of all parts, whichever this is.
    estimates = estimate_plan(chosen, root)
    say("\n".join([plan_totals(plan, asked), *timing_lines(plan, root)]))
    if not yes:
        require_within_budget(chosen, estimates)
    if estimates:
        write_estimates(root, plan.suite, estimates)
    if asked is not None:
        return _run_part(plan, root, how, asked, where, say)
    if not run_trials(plan, root, how):
        return INTERRUPTED
    if not run_timings(plan, root, say, rest=timing, rerun=rerun):
        return INTERRUPTED
    run_outcome = outcome(plan, root)
    if text := _said(lambda: results(whole, root)):
        say(f"{text}\n")
    say(outcome_text(run_outcome, plan.source, root))
    if with_report:
        written = _said(
            lambda: report(whole, root, command=f"harness run {plan.source}", again=False)
        )
        # The last line is what to do next: after failures, the command that repeats one.
        if written is not None and not run_outcome.failures:
            say(f"report: {written}")
        if written is not None and any(planned.is_waiting for planned in plan.trials):
            _mirror_report(root, whole.suite, written)
    return run_outcome.exit_code


def _run_part(
    plan: Plan,
    root: Path,
    how: Execution,
    shard: Shard,
    where: str | None,
    say: Callable[[str], None],
) -> int:
    """Runs the trials of one job of an array; what is of the whole suite is left to one command.

    Several jobs would write the mirror and the report at the same time, each without the others'
    results.
    """
    ended = run_trials(plan, root, replace(how, mirror=False))
    run_outcome = outcome(plan, root) if ended else None
    if run_outcome is not None:
        say(outcome_text(run_outcome, plan.source, root))
    command = run_command(plan, root, where)
    say(f"shard {shard}: no timings, MLflow or report; after the last one: {command}")
    return INTERRUPTED if run_outcome is None else run_outcome.exit_code


def _said(make: Callable[[], _T]) -> _T | None:
    """Makes a summary or report; one that cannot be made is a line, since what ran is recorded."""
    try:
        return make()
    except HarnessError as error:
        print(error, file=sys.stderr)
        return None


def _mirror_report(root: Path, suite: str, written: Path) -> None:
    """Puts the report into MLflow; that it cannot be put there is a line."""
    from harness.records.mlflow_report import log_report

    try:
        log_report(root, suite, written)
    except HarnessError as error:
        print(f"report not in MLflow: {error}", file=sys.stderr)
