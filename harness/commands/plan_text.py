"""The plan as text: one line a trial, then the totals and what is known of the cost."""

from __future__ import annotations

import collections
import functools
from collections.abc import Mapping, Sequence

from harness.datasets import registry as datasets
from harness.labels import MAIN_AXES, label
from harness.planning.cost import UNKNOWN_COST, cost_of
from harness.planning.data_remarks import data_remarks
from harness.planning.plan import Plan, State
from harness.planning.shards import Shard
from harness.text import columns, counted
from harness.trial import AXES

__all__ = ["plan_text", "plan_totals"]

_WORDS: Mapping[State, str] = {
    "to_run": "to run",
    "to_score": "to score",
    "finished": "finished",
    "skipped": "skipped",
}


def plan_text(plan: Plan, shard: Shard | None = None) -> str:
    """Lists the trials, with the main axes and all others that are needed to tell them apart."""
    labels = [label(planned.trial) for planned in plan.trials]
    axes = [name for name in AXES if name in MAIN_AXES or _distinguishes(name, labels)]
    rows = [
        (planned.trial.id, planned.state, *(row[name] for name in axes), planned.reason)
        for planned, row in zip(plan.trials, labels, strict=True)
    ]
    table = columns(rows, header=("id", "state", *axes, "reason"))
    return f"{table}\n{plan_totals(plan, shard)}"


def _distinguishes(axis: str, labels: Sequence[Mapping[str, str]]) -> bool:
    """True if trials that agree on the main axes differ on this one."""
    values: dict[tuple[str, ...], str] = {}
    return any(
        values.setdefault(tuple(row[name] for name in MAIN_AXES), row[axis]) != row[axis]
        for row in labels
    )


def plan_totals(plan: Plan, shard: Shard | None = None) -> str:
    """`suite quickstart: 32 trials: 30 to run, 2 finished`, and the spend where it is limited.

    Arguments:
        plan: A plan, or a part of one.
        shard: Which part.
    """
    name = f"suite {plan.suite}" if shard is None else f"suite {plan.suite}, shard {shard}"
    states = collections.Counter(planned.state for planned in plan.trials)
    parts = [f"{states[state]:,} {word}" for state, word in _WORDS.items() if states[state]]
    totals = [", ".join(parts)] if parts else []
    lines = [": ".join([name, counted(len(plan.trials), "trial"), *totals])]
    lines += data_remarks(planned.trial for planned in plan.trials if planned.is_waiting)
    lines += _sample_metrics(plan)
    lines += _spend(plan)
    return "\n".join(lines)


def _sample_metrics(plan: Plan) -> list[str]:
    """What the metrics of samples take after the tests, on one core of each trial's host."""
    declare = functools.cache(datasets.declare)
    costs = [cost_of(p.trial, declare) for p in plan.trials if p.is_waiting]
    wanted = [each for each in costs if each is not None]
    known = [each for each in wanted if each != UNKNOWN_COST]
    if not wanted:
        return []
    parts = []
    if known:
        seconds = [each.seconds for each in known]
        ends = dict.fromkeys((_duration(min(seconds)), _duration(max(seconds))))
        parts = [
            f"about {' to '.join(ends)} of one core each, {_duration(sum(seconds))} in all",
            f"up to {max(each.bytes for each in known) / 1e9:.2g} GB of host memory",
        ]
    if len(known) < len(wanted):
        parts.append(f"unknown for {counted(len(wanted) - len(known), 'trial')} of unread data")
    return [f"sample metrics of {counted(len(wanted), 'trial')}: {', '.join(parts)}"]


def _duration(seconds: float) -> str:
    units = ((1.0, "s"), (60.0, "min"), (3600.0, "h"))
    size, unit = max((each for each in units if each[0] <= seconds), default=units[0])
    return f"{max(1.0, seconds / size):,.0f} {unit}"


def _spend(plan: Plan) -> list[str]:
    """The budget beside the hours after which every trial has run into its timeout."""
    if plan.budget is None:
        return []
    waiting = [p.resources for p in plan.trials if p.is_waiting]
    cpu_hours = sum(r.cpus * r.timeout_minutes / 60 for r in waiting)
    gpu_hours = sum(r.gpus * r.timeout_minutes / 60 for r in waiting)
    hours = sum(r.timeout_minutes / 60 for r in waiting)
    limits = (
        ("hours", hours, plan.budget.hours),
        ("CPU hours", cpu_hours, plan.budget.cpu_hours),
        ("GPU hours", gpu_hours, plan.budget.gpu_hours),
    )
    return [
        f"{unit}: at most {most:.1f} by the timeouts, budget {limit:g}"
        + ("" if most <= limit else " (the timeouts do not keep the budget)")
        for unit, most, limit in limits
        if limit is not None
    ]
