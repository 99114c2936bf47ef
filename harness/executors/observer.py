"""How the trials of a run are followed, and how the run is stopped."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Protocol

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


class Stop:
    """Takes Ctrl-C and SIGTERM: the first asks trials to save and stop, the second kills them."""

    def __init__(self) -> None:
        self.requests = 0
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requests += 1

    @property
    def requested(self) -> bool:
        """True after the first."""
        return self.requests > 0

    @property
    def insisted(self) -> bool:
        """True after the second."""
        return self.requests > 1
