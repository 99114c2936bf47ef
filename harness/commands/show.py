"""`harness show`: all that is recorded of one trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.records.folder import find_trial
from harness.records.merge import notes_of
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
        same: Attempts of other machines that ended with the same numbers (`harness merge`).
    """

    trial: Trial
    resources: Resources
    suites: Sequence[str]
    result: Mapping[str, Any] | None
    same: Sequence[Mapping[str, Any]] = ()


def show(trial_id: str, root: Path) -> TrialRecord:
    """Returns what is recorded of one trial.

    Arguments:
        trial_id: The id, or a beginning of it that no other trial shares.
        root: The run root.

    Raises:
        InputError: No trial, or more than one, has an id that begins so.
        RecordError: The record is damaged.
    """
    folder = find_trial(root, trial_id)
    trial, resources = folder.read_spec()
    result, same = folder.read_result(), notes_of(folder)
    return TrialRecord(trial, resources, folder.suites(), result, same)
