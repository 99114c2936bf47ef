"""The plan: every trial of a suite with its state, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness import backends
from harness.errors import InputError, Problem
from harness.labels import label
from harness.planning.states import State, States
from harness.specs.resources import Resources
from harness.suites.builtin import find_suite
from harness.suites.filters import fields_of, parse_filter
from harness.suites.terms import Budget, Gate
from harness.trial import Trial, encode

__all__ = [
    "Budget",
    "Gate",
    "Plan",
    "PlannedTrial",
    "Resources",
    "State",
    "plan",
    "plan_json",
    "require_runnable",
]


@dataclass(frozen=True)
class PlannedTrial:
    """One trial and what would happen to it.

    Arguments:
        trial: The resolved spec.
        state: `to_run`, `finished` (a record exists) or `skipped`.
        reason: Why it is skipped, or a remark such as "will download 817 MB".
        resources: What it gets.
    """

    trial: Trial
    state: State
    reason: str | None
    resources: Resources


@dataclass(frozen=True)
class Plan:
    """All trials of a suite, in the order of the file.

    Arguments:
        suite: Name of the suite.
        description: What it is for.
        trials: The trials, those a filter left out excepted.
        gates: Bounds its results must keep.
        source: The suite as the user named it, for commands that the user may repeat.
        budget: What the suite may spend.
    """

    suite: str
    description: str
    trials: tuple[PlannedTrial, ...]
    gates: tuple[Gate, ...] = ()
    source: str = ""
    budget: Budget | None = None


def plan(
    suite: str | Path,
    root: str | Path,
    filter: str | None = None,
    rerun: bool = False,
    *,
    check_backends: bool = True,
) -> Plan:
    """Plans a suite; imports no framework and writes nothing.

    Arguments:
        suite: Name of a built-in suite, or a file.
        root: The run root; records there make trials `finished`.
        filter: Keeps the trials that match it (`harness.suites.filters`).
        rerun: Runs finished trials again.
        check_backends: Raise if a trial to run needs a framework that is not installed.

    Raises:
        InputError: The suite or the filter is invalid, or no trial matches.
        BackendNotInstalled: A trial to run needs a framework that is not installed.
        RecordError: A record under the root cannot be read.
    """
    # Here, because the worker imports the types above and does without pydantic and YAML.
    from harness.suites.grid import expand
    from harness.suites.suite import load_suite

    wanted = parse_filter(filter) if filter is not None else None
    loaded = load_suite(find_suite(str(suite)))
    states = States(Path(root), rerun)
    planned = []
    for point in expand(loaded):
        state, reason = states.of(point.trial, point.excluded)
        if wanted is not None:
            fields = {**fields_of(point.trial, state), "id": (point.trial.id,)}
            if not wanted.matches(fields):
                continue
        planned.append(PlannedTrial(point.trial, state, reason, point.resources))
    if not planned:
        message = f"no trial of the suite '{loaded.name}' matches"
        raise InputError([Problem("-k", message, filter, 1, len(filter or ""))])
    if check_backends:
        _require_backends(planned)
    return Plan(
        suite=loaded.name,
        description=loaded.description,
        trials=tuple(planned),
        gates=tuple(placed.gate for placed in loaded.all_gates()),
        source=str(suite),
        budget=loaded.budget,
    )


def require_runnable(plan: Plan) -> None:
    """Raises InputError with the reasons if every trial of a plan is skipped."""
    if all(planned.state == "skipped" for planned in plan.trials):
        reasons = "; ".join(dict.fromkeys(planned.reason or "" for planned in plan.trials))
        message = f"nothing can run, all {len(plan.trials):,} trials are skipped: {reasons}"
        raise InputError([Problem(plan.source, message)])


def plan_json(plan: Plan) -> dict[str, object]:
    """The plan as `harness plan --json` prints it."""
    return {
        "suite": plan.suite,
        "trials": [
            {
                "id": planned.trial.id,
                **{name: labels[name] for name in ("dataset", "backend", "solver", "regularizer")},
                "seed": planned.trial.seed,
                "state": planned.state,
                "reason": planned.reason,
                "spec": encode(planned.trial),
            }
            for planned in plan.trials
            for labels in (label(planned.trial),)
        ],
    }


def _require_backends(trials: Iterable[PlannedTrial]) -> None:
    for name in dict.fromkeys(p.trial.backend for p in trials if p.state == "to_run"):
        backends.require(backends.get_backend(name))
