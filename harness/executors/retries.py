"""When a trial is tried again, and what its record says when it is not.

A lost machine or a killed process goes on from the checkpoint; memory that ran out gets a second
chance; a numerical failure is a result and has none.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from harness.process.watch import lost_seconds
from harness.records.folder import TrialFolder, result_head
from harness.records.status import Status

__all__ = ["CRASHES", "GRACE_S", "MEMORY", "Retries", "commit_failure"]

CRASHES = 3
"""So often a trial whose process died is resumed."""
MEMORY = 1
"""So often a trial that ran out of memory is tried again."""
GRACE_S = 30.0
"""A trial stops by itself at its time limit; one that hangs is killed so much later."""


class Retries:
    """Counts the retries of all trials of a run, by cause."""

    def __init__(self) -> None:
        self._crashes: Counter[str] = Counter()
        self._memory: Counter[str] = Counter()

    def after_crash(self, trial_id: str) -> bool:
        """Counts a crash; True if the trial is to be resumed."""
        self._crashes[trial_id] += 1
        return self._crashes[trial_id] <= CRASHES

    def after_memory(self, trial_id: str) -> bool:
        """Counts memory that ran out; True if the trial is to be tried again."""
        self._memory[trial_id] += 1
        return self._memory[trial_id] <= MEMORY

    def has_memory_retry(self, trial_id: str) -> bool:
        """True if the trial may still run out of memory without a record of it."""
        return self._memory[trial_id] < MEMORY


def commit_failure(folder: TrialFolder, attempt_id: str, status: Status, message: str) -> None:
    """Commits the result of a trial whose process cannot do it any more.

    Arguments:
        folder: The trial.
        attempt_id: Its last attempt.
        status: How it ended.
        message: Why.
    """
    result: dict[str, Any] = result_head(folder, attempt_id, status, message)
    result |= {
        "metrics": {},
        "timing": {
            "lost_s": sum((lost_seconds(path) for path in folder.attempts()), 0.0),
            "mode": "shared",
        },
        "nfe": {},
        "memory": {},
        "environment": _environment(folder, attempt_id),
    }
    folder.commit_result(result)


def _environment(folder: TrialFolder, attempt_id: str) -> dict[str, Any]:
    try:
        value = json.loads((folder.attempt(attempt_id) / "environment.json").read_bytes())
    except (OSError, ValueError):
        # It died before it knew.
        return {}
    return dict(value)
