"""`harness plan --estimate`: hours of the trials that wait; the budget that a run must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.errors import InputError, Problem
from harness.executors.run import Execution
from harness.executors.run import run as run_trials
from harness.labels import trial_name
from harness.planning.estimate import PROBES, Sums, estimate_plan, sums
from harness.planning.plan import Plan, require_backends
from harness.process.cores import usable_cores
from harness.records.estimates import Estimate
from harness.text import columns, counted

__all__ = ["estimate_json", "estimate_text", "probe", "require_within_budget"]


def probe(plan: Plan, root: Path, minutes: float) -> bool:
    """Runs one trial of each shape that no record tells anything of, stopped after a moment.

    Arguments:
        plan: The plan.
        root: The run root; probes have one of their own in it.
        minutes: Time limit of each probe, its start included.

    Returns:
        False if it was interrupted.

    Raises:
        BackendNotInstalled: A framework is not installed.
        HarnessError: The executor cannot start.
    """
    asked = plan
    while True:
        # One at a time, since a probe answers for all trials of its shape.
        known = estimate_plan(asked, root)
        missing = [p for p in asked.trials if p.is_waiting and p.trial.id not in known]
        if not missing:
            return True
        first = missing[0]
        resources = replace(first.resources, timeout_minutes=minutes)
        single = Plan("probes", "", (replace(first, resources=resources, state="to_run"),))
        require_backends(single)
        if not run_trials(single, root / PROBES, Execution("inline", mirror=False)):
            return False
        # Asked once: a probe that came to no step says nothing.
        asked = replace(asked, trials=tuple(p for p in asked.trials if p is not first))


def estimate_text(plan: Plan, estimates: Mapping[str, Estimate]) -> str:
    """Hours of each waiting trial, then their sum with its range."""
    rows = [
        (
            planned.trial.id,
            trial_name(planned.trial),
            *_cells(estimates.get(planned.trial.id), planned.resources.timeout_minutes),
        )
        for planned in plan.trials
        if planned.is_waiting
    ]
    table = columns(rows, header=("id", "trial", "hours", "range", "from")) if rows else ""
    return "\n".join(filter(None, (table, _total(plan, estimates))))


def estimate_json(plan: Plan, estimates: Mapping[str, Estimate]) -> dict[str, object]:
    """The same as plain values, in seconds."""
    return {
        "suite": plan.suite,
        "sum": sums(plan, estimates),
        "trials": {
            planned.trial.id: estimates.get(planned.trial.id)
            for planned in plan.trials
            if planned.is_waiting
        },
    }


def require_within_budget(plan: Plan, estimates: Mapping[str, Estimate]) -> None:
    """Raises InputError if a plan is expected to take more than its suite's budget.

    Trials without an estimate count by their timeout.
    """
    if plan.budget is None:
        return
    total = sums(plan, estimates)
    limits = (
        ("hours", total.all_hours, plan.budget.hours),
        ("cpu_hours", total.cpu_hours, plan.budget.cpu_hours),
        ("gpu_hours", total.gpu_hours, plan.budget.gpu_hours),
    )
    unknown = ""
    if total.unknown:
        unknown = (
            f", of which {counted(total.unknown, 'trial')} without an estimate, by timeout; "
            "`harness plan SUITE --estimate --probe 1` estimates them"
        )
    problems = [
        Problem(
            plan.source,
            f"expected to take {_hours(expected)} {name.removesuffix('hours')}h"
            f"{unknown}: more than 'budget.{name}', {limit:g}",
            fix="choose trials with -k, raise the budget, or start all the same with --yes",
        )
        for name, expected, limit in limits
        if limit is not None and expected > limit
    ]
    if problems:
        raise InputError(problems)


def _cells(estimate: Estimate | None, timeout_minutes: float) -> tuple[str, str, str]:
    if estimate is None:
        return "unknown", f"at most {_hours(timeout_minutes / 60)}", "timeout"
    low, middle, high = (
        _hours(seconds / 3600) for seconds in (estimate.low, estimate.seconds, estimate.high)
    )
    return middle, f"{low} to {high}", f"{estimate.n} {estimate.basis}"


def _total(plan: Plan, estimates: Mapping[str, Estimate]) -> str:
    total = sums(plan, estimates)
    lines = []
    if total.known:
        lines.append(
            f"{counted(total.known, 'trial')}: {_hours(total.hours)} h in sum "
            f"({_hours(total.low)} to {_hours(total.high)}){_at_once(plan, total)}"
        )
    if total.unknown:
        lines.append(
            f"{counted(total.unknown, 'trial')} unknown, at most {_hours(total.unknown_hours)} h "
            "by their timeouts; --probe 1 runs one of each shape for a minute"
        )
    return "\n".join(lines) or "no trial waits"


def _at_once(plan: Plan, total: Sums) -> str:
    cores = len(usable_cores())
    cpus = max((p.resources.cpus for p in plan.trials if p.is_waiting), default=1)
    several = cores // cpus
    if several < 2 or total.known < 2 or any(p.resources.gpus for p in plan.trials):
        return ""
    return f"; {_hours(total.hours / several)} h if {several} at once on this machine cost no time"


def _hours(hours: float) -> str:
    return f"{hours:.3g}"
