"""The measurements of a finished training so far, in one file that is whole or absent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.measuring.tally import Tally, quartiles
from harness.metrics.samplings import Samplings
from harness.metrics.sets import Float
from harness.records.arrays import DAMAGE, seal, unseal
from harness.records.files import dumps, replace, storing

__all__ = ["Measurements", "Metrics", "digest_of"]

Metrics = dict[str, dict[str, Any]]

VERSION = 1
_NAME = "checkpoint/measured.safetensors"
_LOG_WEIGHTS = "importance/log_weights"


@dataclass
class Measurements:
    """Measurements of the arrays that a training has left.

    Arguments:
        digest: Of these arrays; measurements of others are of no use.
        metrics: Entries of the record by name; those of the test come first.
        nfe: Entries of the record beside those of training.
        seconds: Durations by name of the record's `timing`.
        notes: What is worth saying in the record, by the part that says it.
        samplings: Distances of the sets of samples so far.
        forward: Evaluations of the solve of each.
        draws: Draws of the posterior so far.
        phase_bytes: Largest host memory by phase, above what was held before measuring.
        log_weights: Their log-sum-exp for each test row, [n].
    """

    digest: str
    metrics: Metrics = field(default_factory=dict)
    nfe: dict[str, Any] = field(default_factory=lambda: {"test": None, "sample": None})
    seconds: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    samplings: Samplings = field(default_factory=Samplings)
    forward: list[int] = field(default_factory=list)
    draws: int = 0
    phase_bytes: dict[str, int] = field(default_factory=dict)
    log_weights: Float = field(default_factory=lambda: np.zeros(0))

    @property
    def message(self) -> str | None:
        """All notes."""
        return "; ".join(self.notes.values()) or None

    def spent(self, name: str, seconds: float) -> None:
        """Adds a duration."""
        self.seconds.setdefault(name, []).append(seconds)

    def timing(self) -> dict[str, Any]:
        """Entries of the record's `timing`: the duration of the test, quartiles of the others."""
        return {
            name: values[0] if name == "test_s" else quartiles(values)
            for name, values in self.seconds.items()
        }

    def sampled(self) -> dict[str, Any] | None:
        """Evaluations of the solves for the sets of samples; None if there was none."""
        summary = Tally.of(self.forward).summary()
        return summary and {"forward": summary}

    def write(self, attempt: Path) -> None:
        """Writes the state of an attempt over its previous one."""
        path = attempt / _NAME
        with storing(path):
            path.parent.mkdir(exist_ok=True)
        plain = {name: getattr(self, name) for name in _PLAIN}
        tensors = {**self.samplings.state(), _LOG_WEIGHTS: self.log_weights}
        text = dumps({"version": VERSION, **plain}).decode()
        replace(path, seal(tensors, {"measured": text}))

    @staticmethod
    def read(attempt: Path) -> Measurements | None:
        """Reads the state of an attempt; None if it has no valid one."""
        try:
            arrays, metadata = unseal(attempt / _NAME)
            plain = json.loads(metadata["measured"])
            if plain.pop("version") != VERSION:
                return None
            return Measurements(
                **plain,
                samplings=Samplings.from_state(arrays),
                log_weights=arrays[_LOG_WEIGHTS],
            )
        except DAMAGE:
            return None

    @staticmethod
    def newest(attempts: Iterable[Path], digest: str) -> Measurements:
        """The state of these arrays that has come furthest; an empty one if there is none."""
        best = Measurements(digest)
        for attempt in attempts:
            state = Measurements.read(attempt)
            if state and state.digest == digest and state._progress > best._progress:
                best = state
        return best

    @property
    def _progress(self) -> tuple[int, int, int]:
        return len(self.metrics), self.samplings.count, self.draws


_PLAIN = ("digest", "metrics", "nfe", "seconds", "notes", "forward", "draws", "phase_bytes")


def digest_of(packed: bytes) -> str:
    """SHA-256 of packed arrays: equal where the arrays are."""
    return hashlib.sha256(packed).hexdigest()
