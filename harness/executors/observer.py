"""How the trials of a run are followed, and how the run is stopped."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.planning.plan import PlannedTrial
    from harness.records.status import Status

__all__ = ["Observer", "Stop"]


class Observer(Protocol):
    """Follows the trials of a run."""

    def submitted(self, planned: PlannedTrial, attempt: Path) -> None:
        """An attempt will run as soon as there is room."""

    def ended(self, planned: PlannedTrial, status: Status) -> None:
        """A trial has a committed result."""

    def stopped(self, planned: PlannedTrial) -> None:
        """A trial was asked to stop and has no result; its checkpoint has everything."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def refresh(self) -> None:
        """Called a few times a second."""


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Requests to save and stop: of a terminal, of a system that ends a job, of one that will soon."""


class Stop:
    """Takes Ctrl-C, SIGTERM and SIGUSR1: the first asks trials to save and stop.

    The same one again kills them. Batch systems send different ones as their limit comes closer,
    and the trials are then still saving.
    """

    def __init__(self) -> None:
        self._requests: Counter[int] = Counter()
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Stop:
        for number in SIGNALS:
            self._previous[number] = signal.getsignal(number)
        self.take_signals()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def take_signals(self) -> None:
        """Takes the signals again, from a library that has taken them."""
        for number in SIGNALS:
            signal.signal(number, lambda number, _: self.request(number))

    def request(self, number: int = signal.SIGINT) -> None:
        """Notes a request to stop."""
        self._requests[number] += 1

    @property
    def requested(self) -> bool:
        """True after the first."""
        return bool(self._requests)

    @property
    def insisted(self) -> bool:
        """True after the second of one kind."""
        return any(count > 1 for count in self._requests.values())
