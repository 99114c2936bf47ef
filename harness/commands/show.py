"""`harness show`: all that is recorded of one trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError, Problem
from harness.records.folder import TrialFolder, trial_ids
from harness.specs.resources import Resources
from harness.trial import Trial

__all__ = ["TrialRecord", "show"]


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


def show(trial_id: str, root: Path) -> TrialRecord:
    """Returns what is recorded of one trial.

    Arguments:
        trial_id: The id, or a beginning of it that no other trial shares.
        root: The run root.

    Raises:
        InputError: No trial, or more than one, has an id that begins so.
        RecordError: The record is damaged.
    """
    matches = [name for name in trial_ids(root) if name.startswith(trial_id)]
    if not matches:
        raise InputError(
            [
                Problem(
                    trial_id,
                    f"no record of this trial under {root / 'trials'}",
                    fix="`harness status SUITE` lists the trials of a suite; --root names another "
                    "run root",
                )
            ]
        )
    if len(matches) > 1:
        raise InputError([Problem(trial_id, "several trials begin so", known=tuple(matches))])
    found = TrialFolder(root, matches[0])
    trial, resources = found.read_spec()
    return TrialRecord(trial, resources, found.suites(), found.read_result())
