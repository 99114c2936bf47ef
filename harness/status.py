"""Where a suite stands, and all that is recorded of one trial."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError, Problem, RecordError
from harness.plan import Plan
from harness.states import read_result
from harness.trial import Trial

__all__ = ["TrialStatus", "show", "status"]


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


def status(plan: Plan, root: Path) -> list[TrialStatus]:
    """Reads the status of every trial of a plan."""
    return [_status(planned.trial, planned.state, planned.reason, root) for planned in plan.trials]


def show(trial_id: str, root: Path) -> dict[str, Any]:
    """Returns the spec and the result of one trial.

    Arguments:
        trial_id: The id, or a beginning of it that no other trial shares.
        root: The run root.

    Returns:
        `{"spec": {...}, "result": {...} or None}`.

    Raises:
        InputError: No trial, or more than one, has an id that begins so.
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
    path = folder / matches[0] / "spec.json"
    try:
        spec = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from error
    return {"spec": spec, "result": read_result(root, matches[0])}


def _status(trial: Trial, state: str, reason: str | None, root: Path) -> TrialStatus:
    step = _last_step(root / "trials" / trial.id)
    result = read_result(root, trial.id)
    if result is not None:
        return TrialStatus(trial, str(result.get("status")), step, result.get("message"))
    if state == "to_run" and step is not None:
        return TrialStatus(trial, "started", step, reason)
    return TrialStatus(trial, state, step, reason)


def _last_step(folder: Path) -> int | None:
    files = sorted(folder.glob("attempt-*/metrics.jsonl"), key=lambda path: path.stat().st_mtime)
    for line in reversed(files[-1].read_bytes().splitlines() if files else []):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            # A kill can tear the last line.
            continue
    return None
