"""What a finished trial has left that a repetition can be held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import RecordError
from harness.interface import Arrays
from harness.records.arrays import unpack
from harness.records.columns import flatten
from harness.records.folder import TrialFolder
from harness.records.readers import read_lines
from harness.records.trained import TrainedFolder
from harness.trial import Trial

__all__ = ["Evidence", "gather"]

Curve = Mapping[tuple[int, str], float]
"""Values by step and quantity."""

_FOLLOWS_THE_CLOCK = ("step", "timestamp_ms", "train_s")
_WINDOW = "nfe_"
"""Means since the line before: a line that the clock made due changes them."""


@dataclass(frozen=True)
class Evidence:
    """What a trial has left, without what follows the clock.

    Arguments:
        status: How it ended.
        message: Why.
        metrics: Values of the metrics by name, None for one that is not finite.
        counts: Evaluations of the dynamics by dotted name.
        curve: The lines of its training.
        models: The arrays of its trained model, by the file that holds them.
        fingerprint: Numerics fingerprint; None if none is recorded.
    """

    status: str
    message: str | None
    metrics: Mapping[str, float | None]
    counts: Mapping[str, float]
    curve: Curve
    models: Mapping[str, Arrays]
    fingerprint: str | None


def gather(root: Path, trial: Trial, trial_id: str) -> Evidence:
    """Reads what a trial has left.

    Arguments:
        root: The run root.
        trial: Its spec.
        trial_id: Its id, which one recorded by an earlier version keeps.

    Raises:
        RecordError: It has no result, or a file is damaged.
    """
    folder = TrialFolder(root, trial_id)
    result = folder.read_result()
    if result is None:
        raise RecordError(f"{folder.result}: no such file")
    attempt = folder.attempt(str(result["attempt_id"]))
    metrics = {
        name: None if entry["value"] is None else float(entry["value"])
        for name, entry in (result.get("metrics") or {}).items()
        if entry is not None
    }
    counts = flatten(result.get("nfe") or {})
    environment: Mapping[str, Any] = result.get("environment") or {}
    return Evidence(
        status=str(result["status"]),
        message=result.get("message"),
        metrics=metrics,
        counts={name: float(value) for name, value in counts.items()},
        curve=_curve(attempt / "metrics.jsonl"),
        models=_models(root, trial, attempt),
        fingerprint=environment.get("numerics_fingerprint"),
    )


def _curve(path: Path) -> Curve:
    return {
        (line["step"], name): float(value)
        for line in read_lines(path)
        for name, value in line.items()
        if value is not None and name not in _FOLLOWS_THE_CLOCK and not name.startswith(_WINDOW)
    }


def _models(root: Path, trial: Trial, attempt: Path) -> dict[str, Arrays]:
    """The model that the trial measured, and the one that is kept for others."""
    models = {}
    path = attempt / "model.safetensors"
    if path.is_file():
        models["the trial's model.safetensors"] = unpack(path)
    trained = TrainedFolder(root, trial.training_id)
    if (record := trained.read()) is not None:
        models["the trained model"] = unpack(trained.model(record.attempt_id))
    return models
