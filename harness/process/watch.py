"""The time limit of a running trial, requests to stop it, and its progress.json."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from harness.errors import RecordError
from harness.records.files import dumps, now
from harness.records.readers import read_object

__all__ = [
    "Interrupted",
    "Progress",
    "TimedOut",
    "Watch",
    "began",
    "lost_seconds",
    "read_progress",
]

_NAME = "progress.json"


class TimedOut(Exception):
    """The trial reached its time limit."""


class Interrupted(Exception):
    """The trial was asked to stop; what it has is in its checkpoint."""


@dataclass(frozen=True)
class Progress:
    """How far a running trial is.

    Arguments:
        phase: What it is busy with: `starting`, `training`, `testing`, ...
        step: Finished optimiser steps.
        iterations: Steps in all.
        loss: Last known training loss in nats per example.
        nfe: Last known evaluations of a step, forward and backward.
        step_s: Recent seconds a step, all overhead included; None before the first steps.
        alive_s: Seconds since the attempt began.
        saved_s: `alive_s` when the newest checkpoint was written; 0 before.
        timestamp_ms: When this was written.
    """

    phase: str
    step: int
    iterations: int
    loss: float | None = None
    nfe: float | None = None
    step_s: float | None = None
    alive_s: float = 0.0
    saved_s: float = 0.0
    timestamp_ms: int = 0

    @property
    def eta_s(self) -> float | None:
        """Seconds until the last training step at the recent pace."""
        return None if self.step_s is None else self.step_s * (self.iterations - self.step)


class Watch:
    """Says whether an attempt may go on, and publishes how far it is.

    Arguments:
        attempt: Folder of the attempt, which receives progress.json.
        limit_s: Time limit of the attempt.
        listener: Called with every progress.
        parent: Process id of whoever waits for the trial; it stops when that process is dead.
    """

    def __init__(
        self,
        attempt: Path,
        limit_s: float,
        listener: Callable[[Progress], None] | None = None,
        parent: int | None = None,
    ) -> None:
        self._path = attempt / _NAME
        self._limit_s = limit_s
        self._listener = listener
        self._start = time.perf_counter()
        self._parent = parent
        self._stop = False
        self._stop_at = 0.0
        self._saved_s = 0.0
        self._last = Progress("starting", 0, 0)

    def alive_s(self) -> float:
        """Seconds since the attempt began."""
        return time.perf_counter() - self._start

    def begin(self) -> None:
        """Starts the time of the attempt anew: it begins when it has its cores."""
        self._start = time.perf_counter()

    def check_asked(self) -> None:
        """Returns unless the trial was asked to stop.

        Raises:
            Interrupted: It was.
        """
        if self._stop or self._parent not in (None, os.getppid()):
            raise Interrupted

    def check(self) -> None:
        """Returns if the trial may go on.

        Raises:
            TimedOut: It may not, since its time is over.
            Interrupted: It may not, since it was asked to stop.
        """
        self.check_asked()
        if self.alive_s() > self._limit_s:
            raise TimedOut(f"stopped after {self._limit_s / 60:.3g} minutes")

    def saved(self) -> None:
        """Notes that a checkpoint was written just now."""
        self._saved_s = self.alive_s()
        self.report()

    def report(self, **changes: Any) -> None:  # noqa: ANN401
        """Publishes progress; what is not named stays as it was."""
        values = {**asdict(self._last), **changes}
        values |= {"alive_s": self.alive_s(), "saved_s": self._saved_s, "timestamp_ms": now()}
        self._last = Progress(**values)
        # Neither durable nor part of the record: no fsync, and a full disk is said elsewhere.
        temporary = self._path.with_name(f".{_NAME}")
        try:
            temporary.write_bytes(dumps(asdict(self._last)))
            os.replace(temporary, self._path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
        if self._listener is not None:
            self._listener(self._last)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Takes requests to stop (SIGINT, SIGTERM, SIGUSR1); a later one has its usual effect."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.getsignal(number) for number in _SIGNALS}

        def stop(number: int, frame: FrameType | None) -> None:
            if self._stop and time.perf_counter() - self._stop_at > _SAME_REQUEST_S:
                for each, handler in previous.items():
                    signal.signal(each, handler)
                signal.raise_signal(number)
            elif not self._stop:
                self._stop, self._stop_at = True, time.perf_counter()

        for number in _SIGNALS:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_SAME_REQUEST_S = 1.0
"""One Ctrl-C may arrive twice, from the terminal and from whoever started the process."""


def began(attempt: Path) -> bool:
    """True once an attempt has its cores and has published its progress."""
    return (attempt / _NAME).exists()


def read_progress(attempt: Path) -> Progress | None:
    """Reads the last progress of an attempt; None if it has published none that can be read."""
    try:
        values = read_object(attempt / _NAME)
        if values is None:
            return None
        if "stage" in values:  # the name of `phase` in version 0.1
            values["phase"] = values.pop("stage")
        progress = Progress(**values)
    except (RecordError, TypeError):
        return None
    numbers = [value for name, value in values.items() if name != "phase" and value is not None]
    return progress if all(isinstance(value, int | float) for value in numbers) else None


def lost_seconds(attempt: Path) -> float:
    """Seconds of a dead attempt that are in none of its checkpoints."""
    last = read_progress(attempt)
    return 0.0 if last is None else max(0.0, last.alive_s - last.saved_s)
