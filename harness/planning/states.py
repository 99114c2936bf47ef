"""The state of a trial before anything runs: finished, skipped (and why), or to run."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from harness import backends
from harness.datasets import registry as datasets
from harness.errors import RecordError
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.records.version import __version__
from harness.trial import Trial

__all__ = ["FINAL", "State", "States"]

State = Literal["to_run", "finished", "skipped"]
FINAL = frozenset(status.value for status in Status if status.is_final)
"""Statuses that are results (`harness.records.status.Status.is_final`), as records have them."""


class States:
    """Finds the state of trials; what many of them share is looked up once.

    Arguments:
        root: The run root.
        rerun: Finished trials are to run again.
    """

    def __init__(self, root: Path, rerun: bool) -> None:
        self._root, self._rerun = root, rerun
        self._recorded = _subfolders(root / "trials")
        self._declare = functools.cache(datasets.declare)
        self._backend = functools.cache(backends.get_backend)

    def of(self, trial: Trial, excluded: str | None) -> tuple[State, str | None]:
        """State of a trial and the reason or a remark."""
        if excluded is not None:
            return "skipped", excluded
        result = (
            TrialFolder(self._root, trial.id).read_result() if trial.id in self._recorded else None
        )
        status = result.get("status") if result else None
        if result is not None and status in FINAL and not self._rerun:
            return "finished", _remark(result)
        unsupported = self._backend(trial.backend).supports(trial)
        if unsupported is not None:
            return "skipped", f"{trial.backend} does not support it: {unsupported.reason}"
        data = self._declare(trial.dataset.name)
        download = data.reason is not None and data.reason.startswith("will download")
        if not data.available and not download:
            return "skipped", f"no data: {data.reason}"
        if status in FINAL:
            return "to_run", f"runs again; recorded status: {status}"
        if status is not None:
            return "to_run", f"failed before: {status}"
        return "to_run", data.reason if download else None


def _subfolders(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise RecordError(f"{folder}: cannot be read: {error.strerror}") from error


def _remark(result: Mapping[str, object]) -> str | None:
    """What is worth knowing of a finished trial: that it diverged, or that it is of old."""
    remarks = []
    if result.get("status") != "ok":
        remarks.append(str(result.get("status")))
    environment = result.get("environment")
    version = environment.get("harness") if isinstance(environment, dict) else None
    if version is not None and version != __version__:
        remarks.append(f"by version {version}")
    return ", ".join(remarks) or None
