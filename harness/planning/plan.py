"""The plan: every trial of a suite with its state, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness import backends
from harness.errors import InputError, Problem
from harness.labels import MAIN_AXES, label
from harness.planning.states import State, States
from harness.records.folder import Damaged, TrialFolder, trial_ids
from harness.specs.resources import Resources
from harness.suites.builtin import find_suite
from harness.suites.filters import Fields, fields_of, parse_filter
from harness.suites.grid import expand
from harness.suites.limits import Budget, Gate, Timing
from harness.suites.suite import load_suite
from harness.trial import Trial, encode

__all__ = [
    "Budget",
    "Gate",
    "Plan",
    "PlannedTrial",
    "Resources",
    "State",
    "Timing",
    "plan",
    "plan_json",
    "plan_of_root",
    "plan_suite",
    "require_backends",
    "require_runnable",
    "select",
]


@dataclass(frozen=True)
class PlannedTrial:
    """One trial and what would happen to it.

    Arguments:
        trial: The resolved spec.
        state: `to_run`, `to_score` (its model is trained), `finished` (a record exists) or
            `skipped`.
        reason: Why it is skipped, or a remark such as "will download 817 MB".
        resources: What it gets.
    """

    trial: Trial
    state: State
    reason: str | None
    resources: Resources

    @property
    def is_waiting(self) -> bool:
        """True if something is to be computed."""
        return self.state in ("to_run", "to_score")


@dataclass(frozen=True)
class Plan:
    """Trials of a suite, in the order of the file.

    Arguments:
        suite: Name of the suite.
        description: What it is for.
        trials: All its trials, or those that were selected.
        gates: Bounds its results must keep.
        source: The suite as the user named it, for commands that the user may repeat.
        budget: What the suite may spend.
        timing: How its backends are timed side by side after the trials; None times nothing.
    """

    suite: str
    description: str
    trials: tuple[PlannedTrial, ...]
    gates: tuple[Gate, ...] = ()
    source: str = ""
    budget: Budget | None = None
    timing: Timing | None = None

    @property
    def wanted(self) -> tuple[PlannedTrial, ...]:
        """The trials that are not skipped: those that have a record or shall have one."""
        return tuple(planned for planned in self.trials if planned.state != "skipped")


def plan(
    suite: str | Path,
    root: str | Path,
    filter: str | None = None,
    rerun: bool = False,
    *,
    check_backends: bool = True,
) -> Plan:
    """Plans a suite or a part of it; imports no framework and writes nothing.

    Arguments:
        suite: Name of a built-in suite, or a file.
        root: The run root; records there make trials `finished`.
        filter: See `select`.
        rerun: See `select`.
        check_backends: Raise if a trial to run needs a framework that is not installed.

    Raises:
        InputError: The suite or the filter is invalid, or no trial matches.
        BackendNotInstalled: A trial to run needs a framework that is not installed.
        RecordError: A record under the root cannot be read.
    """
    made = select(plan_suite(suite, root), root, filter, rerun)
    if check_backends:
        require_backends(made)
    return made


def plan_suite(suite: str | Path, root: str | Path) -> Plan:
    """Plans all trials of a suite.

    Arguments:
        suite: Name of a built-in suite, or a file.
        root: The run root.

    Raises:
        InputError: The suite is invalid.
        RecordError: Records of its trials are damaged; it names all of them.
    """
    loaded = load_suite(find_suite(str(suite)))
    states = States(Path(root))
    planned, damaged = [], Damaged()
    for point in expand(loaded):
        with damaged:
            state, reason = states.of(point.trial, excluded=point.excluded)
            planned.append(PlannedTrial(point.trial, state, reason, point.resources))
    damaged.refuse()
    return Plan(
        suite=loaded.name,
        description=loaded.description,
        trials=tuple(planned),
        gates=tuple(placed.gate for placed in loaded.all_gates()),
        source=str(suite),
        budget=loaded.budget,
        timing=loaded.timing,
    )


def plan_of_root(root: Path, name: str | None = None) -> Plan:
    """All trials that a root holds, whatever suites ran them: `finished`, or `to_run`.

    Arguments:
        root: The run root.
        name: What stands in the place of the suite's name; None: the root's.

    Raises:
        InputError: There are none.
        RecordError: Records are damaged; it names all of them.
    """
    planned, damaged = [], Damaged()
    for trial_id in trial_ids(root):
        folder = TrialFolder(root, trial_id)
        with damaged:
            trial, resources = folder.read_spec()
            state: State = "to_run" if folder.read_result() is None else "finished"
            planned.append(PlannedTrial(trial, state, None, resources))
    damaged.refuse()
    if not planned:
        raise InputError([Problem(str(root), "holds no trials")])
    planned.sort(key=lambda each: [*label(each.trial).values()])
    return Plan(name or root.resolve().name, "", tuple(planned), source=name or str(root))


def select(whole: Plan, root: str | Path, filter: str | None = None, rerun: bool = False) -> Plan:
    """Selects trials of a plan.

    Arguments:
        whole: The plan.
        root: Its run root.
        filter: Keeps the trials that match it (`harness.suites.filters`).
        rerun: Runs finished trials again; the filter sees them as `to_run`.

    Raises:
        InputError: The filter is invalid, or no trial matches.
    """
    trials = whole.trials
    if rerun:
        states = States(Path(root))
        trials = tuple(_again(planned, states) for planned in trials)
    if filter is not None:
        wanted = parse_filter(filter)
        trials = tuple(planned for planned in trials if wanted.matches(_fields(planned)))
        if not trials:
            message = f"no trial of the suite '{whole.suite}' matches"
            raise InputError([Problem("-k", message, filter, 1, len(filter))])
    return replace(whole, trials=trials)


def _again(planned: PlannedTrial, states: States) -> PlannedTrial:
    if planned.state != "finished":
        return planned
    state, reason = states.of(planned.trial, rerun=True)
    return replace(planned, state=state, reason=reason)


def _fields(planned: PlannedTrial) -> Fields:
    return {**fields_of(planned.trial, planned.state), "id": (planned.trial.id,)}


def require_backends(plan: Plan) -> None:
    """Raises BackendNotInstalled if a trial to run needs a framework that is not installed."""
    for name in dict.fromkeys(p.trial.backend for p in plan.trials if p.is_waiting):
        backends.require(backends.get_backend(name))


def require_runnable(plan: Plan) -> None:
    """Raises InputError with the reasons if every trial of a plan is skipped."""
    if not plan.wanted:
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
                **{axis: labels[axis] for axis in MAIN_AXES},
                "seed": planned.trial.seed,
                "state": planned.state,
                "reason": planned.reason,
                "spec": encode(planned.trial),
            }
            for planned in plan.trials
            for labels in (label(planned.trial),)
        ],
    }
