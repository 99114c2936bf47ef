"""The lines of metrics.jsonl, and when they and the checkpoints are due.

Here the clock decides what is written, and nothing that is written here changes a result.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError, Problem
from harness.records.files import dumps, now, storing

__all__ = ["Cadence", "Lines"]


@dataclass(frozen=True)
class Cadence:
    """When lines and checkpoints are written; never part of a result.

    Arguments:
        checkpoint_s: Seconds between checkpoints; every validation writes one too.
        log_s: Seconds after which a line is due, however few the steps.
        lines: About so many lines a trial, unless steps are slow.
    """

    checkpoint_s: float = 30.0
    log_s: float = 1.0
    lines: int = 1000

    @staticmethod
    def from_environment() -> Cadence:
        """Reads `HARNESS_CHECKPOINT_SECONDS`.

        Raises:
            InputError: It is not a number.
        """
        text = os.environ.get("HARNESS_CHECKPOINT_SECONDS", "30")
        try:
            return Cadence(checkpoint_s=float(text))
        except ValueError as error:
            message = f"'{text}' is not a number of seconds"
            raise InputError([Problem("HARNESS_CHECKPOINT_SECONDS", message)]) from error


class Lines:
    """The metrics.jsonl of an attempt, and the pace of training between its lines.

    Arguments:
        attempt: Folder of the attempt; lines that are there already stay.
        cadence: When a line is due.
        iterations: Steps of the whole training; the last one always has a line.
        step: Steps that were finished before this attempt.
    """

    def __init__(self, attempt: Path, cadence: Cadence, iterations: int, step: int) -> None:
        self._path = attempt / "metrics.jsonl"
        with storing(self._path):
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
        self._log_s, self._iterations = cadence.log_s, iterations
        # Ten steps between lines, more in long trainings.
        self._every = max(10, math.ceil(iterations / cadence.lines))
        self._at, self._step = time.perf_counter(), step

    def due(self, step: int) -> bool:
        """True if a line of training is due after so many steps."""
        slow = time.perf_counter() - self._at > self._log_s
        return step % self._every == 0 or step == self._iterations or slow

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes a line: the step, the time of day, and the values that there are."""
        known = {name: value for name, value in values.items() if value is not None}
        with storing(self._path):
            self._file.write(dumps({"step": step, "timestamp_ms": now(), **known}))

    def pace(self, step: int) -> float:
        """Seconds a step since this was last asked, at an earlier step; pauses left out."""
        at = time.perf_counter()
        seconds = (at - self._at) / (step - self._step)
        self._at, self._step = at, step
        return seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time of a block out of the pace of training."""
        start = time.perf_counter()
        yield
        self._at += time.perf_counter() - start

    def sync(self) -> None:
        """Makes the lines durable."""
        with storing(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
