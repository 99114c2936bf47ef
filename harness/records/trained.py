"""Trained models: what trials that differ in their evaluation alone share.

    <root>/trained/<training_id>/
        attempt-<id>/   model.safetensors  metrics.jsonl
        trained.json    the commit point: the first commit wins

A trial commits its trained model before it measures it. Whoever finds one measures only.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.errors import RecordError
from harness.records.files import commit, dumps, now, replace, set_aside, storing
from harness.records.folder import TrialFolder
from harness.records.readers import SCHEMA_VERSION, read_trained
from harness.trial import Trial

__all__ = ["TrainedFolder", "TrainedRecord", "begin_anew"]


@dataclass(frozen=True)
class TrainedRecord:
    """What trained.json says.

    Arguments:
        trial_id: The trial that trained.
        attempt_id: Its attempt, which names the folder of the model.
        environment: Where it trained.
        timing: Entries of a result's `timing` that are about training.
        nfe: Entries of its `nfe`.
        peak_host_bytes: Largest resident size until training ended.
        phase_bytes: Largest host memory by phase above what was held before training; None of
            a version that did not measure it.
        shared: Another trial ran on the machine at some time, or other processes disturbed it.
        steps: Optimiser steps taken.
        stale: Validations without gain after which patience ended it; None if it did not.
        val_nll: Score of the arrays at validation, None if there was none.
        val_rows: Rows of that validation.
    """

    trial_id: str
    attempt_id: str
    environment: Mapping[str, Any]
    timing: Mapping[str, Any]
    nfe: Mapping[str, Any]
    peak_host_bytes: int | None
    shared: bool
    steps: int
    stale: int | None
    val_nll: float | None
    val_rows: int
    phase_bytes: Mapping[str, int] | None = None


_FIELDS = fields(TrainedRecord)


@dataclass(frozen=True)
class TrainedFolder:
    """The trained model of an identity, if there is one.

    Arguments:
        root: The run root.
        training_id: `Trial.training_id`.
    """

    root: Path
    training_id: str

    @property
    def path(self) -> Path:
        """The folder."""
        return self.root / "trained" / self.training_id

    @property
    def record(self) -> Path:
        """The commit point."""
        return self.path / "trained.json"

    def model(self, attempt_id: str) -> Path:
        """The arrays that an attempt trained."""
        return self.path / f"attempt-{attempt_id}" / "model.safetensors"

    def lines(self, attempt_id: str) -> Path:
        """The curve of its training."""
        return self.path / f"attempt-{attempt_id}" / "metrics.jsonl"

    def read(self) -> TrainedRecord | None:
        """The record; None if nothing was committed.

        Raises:
            RecordError: It is damaged, of another training, or its model is gone.
        """
        values = read_trained(self.record, self.training_id)
        if values is None:
            return None
        said: dict[str, Any] = {field.name: values.get(field.name) for field in _FIELDS}
        record = TrainedRecord(**said)
        for path in (self.model(record.attempt_id), self.lines(record.attempt_id)):
            if not path.is_file():
                raise RecordError(
                    f"{self.record}: its file {path} is gone; remove {self.path} and run again"
                )
        return record

    def commit(self, record: TrainedRecord, model: bytes, lines: Path) -> bool:
        """Commits a trained model; False if another was committed before.

        Arguments:
            record: What is said of it.
            model: Its arrays, sealed.
            lines: The metrics.jsonl of its training.
        """
        place = self.model(record.attempt_id).parent
        with storing(place):
            place.mkdir(parents=True, exist_ok=True)
            curve = lines.read_bytes()
        replace(self.model(record.attempt_id), model)
        replace(self.lines(record.attempt_id), curve)
        values = {
            "schema_version": SCHEMA_VERSION,
            "training_id": self.training_id,
            "finished_ms": now(),
            **record.__dict__,
        }
        won = commit(self.record, dumps(values, indent=1))
        if not won:
            # Nobody reads what no record names.
            shutil.rmtree(place, ignore_errors=True)
        return won

    def set_aside(self) -> None:
        """Makes room for another training; what was there is kept beside."""
        set_aside(self.path, [self.record, *self.path.glob("attempt-*")])


def begin_anew(folder: TrialFolder, trial: Trial) -> None:
    """Sets a result aside with all that led to it, the trained model included."""
    folder.set_aside(attempts=True)
    TrainedFolder(folder.root, trial.training_id).set_aside()
