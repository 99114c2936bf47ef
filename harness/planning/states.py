"""The state of a trial before anything runs: finished, skipped (and why), to run or to score."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from harness import backends
from harness.datasets import registry as datasets
from harness.records.folder import TrialFolder, ids_under, trial_ids
from harness.records.status import Status
from harness.records.trained import TrainedFolder, TrainedRecord
from harness.records.version import __version__
from harness.trial import Trial

__all__ = ["State", "States"]

State = Literal["to_run", "to_score", "finished", "skipped"]
"""`to_score`: its model is trained, by this trial or one that differs in its evaluation."""


class States:
    """Finds the state of trials; what many of them share is looked up once.

    Arguments:
        root: The run root.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._recorded = frozenset(trial_ids(root))
        self._models = frozenset(ids_under(root / "trained"))
        self._declare = functools.cache(datasets.declare)
        self._backend = functools.cache(backends.get_backend)

    def of(
        self, trial: Trial, *, excluded: str | None = None, rerun: bool = False
    ) -> tuple[State, str | None]:
        """Returns the state, and the reason for it or a remark.

        Arguments:
            trial: The trial.
            excluded: Why the suite skips it; None if it does not.
            rerun: A finished trial is to run again.
        """
        if excluded is not None:
            return "skipped", excluded
        result = self._result(trial)
        if result is None:
            return self._possible(trial)
        status = Status(result["status"])
        if not status.is_final:
            return self._possible(trial, f"failed before: {status.value}")
        if rerun:
            remark = f"runs again; recorded status: {status.value}"
            return self._possible(trial, remark, anew=True)
        return "finished", _remark(result)

    def _possible(
        self, trial: Trial, remark: str | None = None, *, anew: bool = False
    ) -> tuple[State, str | None]:
        """`to_run`, or `to_score` if its model is trained and it is not to begin anew, unless the
        backend does not support the trial or its data are not there.
        """
        unsupported = self._backend(trial.backend).supports(trial)
        if unsupported is not None:
            return "skipped", f"{trial.backend} does not support it: {unsupported.reason}"
        data = self._declare(trial.dataset.name)
        download = data.reason is not None and data.reason.startswith("will download")
        if not data.available and not download:
            return "skipped", f"no data: {data.reason}"
        remark = remark or (data.reason if download else None)
        trained = None if anew else self._trained(trial)
        if trained is None:
            return "to_run", remark
        by = f"trained by {trained.trial_id}"
        return "to_score", by if remark is None else f"{remark}; {by}"

    def _trained(self, trial: Trial) -> TrainedRecord | None:
        # Most roots hold no model of another trial: one look at the folder.
        if not self._models or trial.training_id not in self._models:
            return None
        return TrainedFolder(self._root, trial.training_id).read()

    def _result(self, trial: Trial) -> Mapping[str, object] | None:
        # One look at the folder instead of one at each trial's.
        if trial.id not in self._recorded:
            return None
        return TrialFolder(self._root, trial.id).read_result()


def _remark(result: Mapping[str, object]) -> str | None:
    """What is worth knowing of a finished trial: that it diverged, or which version ran it."""
    status = Status(result["status"])
    remarks = [] if status is Status.OK else [status.value]
    environment = result.get("environment")
    version = environment.get("harness") if isinstance(environment, dict) else None
    if version is not None and version != __version__:
        remarks.append(f"by version {version}")
    return ", ".join(remarks) or None
