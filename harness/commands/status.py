"""Where a suite stands, and all that is recorded of one trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError, Problem
from harness.planning.plan import Plan
from harness.records.files import read_lines
from harness.records.folder import TrialFolder, read_spec
from harness.specs.resources import Resources
from harness.trial import Trial

__all__ = ["TrialRecord", "TrialStatus", "show", "status"]


@dataclass(frozen=True)
class TrialStatus:
    """A trial of a plan and what its record says.

    Arguments:
        trial: The trial.
        status: Its recorded status; `skipped`, `started` (an attempt, but no result) or `to_run`.
        step: Last logged step of the newest attempt.
        message: The record's sentence, or why it is skipped.
    """

    trial: Trial
    status: str
    step: int | None
    message: str | None


@dataclass(frozen=True)
class TrialRecord:
    """All that is recorded of one trial.

    Arguments:
        trial: Its spec.
        resources: What it was given.
        suites: Names of the suites that ran it.
        result: Its committed result; None if there is none yet.
    """

    trial: Trial
    resources: Resources
    suites: Sequence[str]
    result: Mapping[str, Any] | None


def status(plan: Plan, root: Path) -> list[TrialStatus]:
    """Reads the status of every trial of a plan."""
    return [_status(planned.trial, planned.state, planned.reason, root) for planned in plan.trials]


def show(trial_id: str, root: Path) -> TrialRecord:
    """Returns what is recorded of one trial.

    Arguments:
        trial_id: The id, or a beginning of it that no other trial shares.
        root: The run root.

    Raises:
        InputError: No trial, or more than one, has an id that begins so.
        RecordError: The record is damaged.
    """
    folder = root / "trials"
    ids = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    matches = [name for name in ids if name.startswith(trial_id)]
    if not matches:
        raise InputError(
            [
                Problem(
                    trial_id,
                    f"no record of this trial under {folder}",
                    fix="`harness status SUITE` lists the trials of a suite; --root names another "
                    "run root",
                )
            ]
        )
    if len(matches) > 1:
        raise InputError([Problem(trial_id, "several trials begin so", known=tuple(matches))])
    found = TrialFolder(root, matches[0])
    trial, resources = read_spec(found.spec)
    return TrialRecord(trial, resources, found.suites(), found.read_result())


def _status(trial: Trial, state: str, reason: str | None, root: Path) -> TrialStatus:
    folder = TrialFolder(root, trial.id)
    step, result = _last_step(folder), folder.read_result()
    if result is not None:
        return TrialStatus(trial, str(result.get("status")), step, result.get("message"))
    if state == "to_run" and step is not None:
        return TrialStatus(trial, "started", step, reason)
    return TrialStatus(trial, state, step, reason)


def _last_step(folder: TrialFolder) -> int | None:
    """Last logged step of the attempt that wrote last."""
    logs = [path for attempt in folder.attempts() if (path := attempt / "metrics.jsonl").is_file()]
    if not logs:
        return None
    lines = read_lines(max(logs, key=lambda path: path.stat().st_mtime))
    steps = [line["step"] for line in lines if isinstance(line.get("step"), int)]
    return steps[-1] if steps else None
