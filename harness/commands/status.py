"""`harness status`: where the trials of a suite stand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.planning.plan import Plan, PlannedTrial
from harness.records.folder import TrialFolder
from harness.records.readers import read_lines
from harness.trial import Trial

__all__ = ["TrialStatus", "status"]


@dataclass(frozen=True)
class TrialStatus:
    """A trial of a plan and what its record says.

    Arguments:
        trial: The trial.
        status: Its recorded status; `skipped`, `started` (an attempt, but no result), `to_run` or
            `to_score`.
        step: Last logged step of the newest attempt.
        message: The record's sentence, or why it is skipped.
    """

    trial: Trial
    status: str
    step: int | None
    message: str | None


def status(plan: Plan, root: Path) -> list[TrialStatus]:
    """Reads the status of every trial of a plan."""
    return [_status(planned, root) for planned in plan.trials]


def _status(planned: PlannedTrial, root: Path) -> TrialStatus:
    trial, reason = planned.trial, planned.reason
    folder = TrialFolder(root, trial.id)
    step, result = _last_step(folder), folder.read_result()
    if result is not None:
        return TrialStatus(trial, str(result.get("status")), step, result.get("message"))
    if planned.is_waiting and step is not None:
        return TrialStatus(trial, "started", step, reason)
    return TrialStatus(trial, planned.state, step, reason)


def _last_step(folder: TrialFolder) -> int | None:
    """Last logged step of the attempt that wrote last."""
    logs = [path for attempt in folder.attempts() if (path := attempt / "metrics.jsonl").is_file()]
    if not logs:
        return None
    lines = read_lines(max(logs, key=lambda path: path.stat().st_mtime))
    return lines[-1]["step"] if lines else None
