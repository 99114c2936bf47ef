"""How long a run will go on, from what its own trials have taken so far."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace

from harness.process.watch import Progress
from harness.trial import Trial

__all__ = ["Pace"]


@dataclass
class Pace:
    """Seconds that trials took, looked up by the likest: the same but for the seed, then the same
    data and backend, then the same data, then any.
    """

    _ended: list[tuple[Trial, float]] = field(default_factory=list)
    _slots: int = 1

    def ended(self, trial: Trial, seconds: float) -> None:
        """A trial took so long."""
        self._ended.append((trial, seconds))

    def remaining(
        self, running: Iterable[tuple[Trial, Progress]], waiting: Iterable[Trial]
    ) -> float | None:
        """Seconds until the last trial ends; None before anything is known.

        Arguments:
            running: Trials under way, whose own pace is known after the first steps.
            waiting: Trials that have not begun.
        """
        now = list(running)
        # As many go on side by side as ever did.
        self._slots = max(self._slots, len(now))
        # What a trial has still to do after its training is not in its own pace.
        paced = [
            (trial, each.alive_s + each.eta_s) for trial, each in now if each.eta_s is not None
        ]
        taken = _by_likeness(self._ended), _by_likeness(paced)
        lefts = []
        for trial, each in now:
            expected = _expected(trial, *taken)
            if expected is None:
                return None
            lefts.append(max(expected - each.alive_s, each.eta_s or 0.0))
        for trial in waiting:
            expected = _expected(trial, *taken)
            if expected is None:
                return None
            lefts.append(expected)
        return max(sum(lefts) / self._slots, *lefts, 0.0) if lefts else 0.0


def _keys(trial: Trial) -> tuple[Hashable, ...]:
    name = trial.dataset.name
    return repr(replace(trial, seed=0)), (name, trial.backend), name, ()


def _by_likeness(taken: Iterable[tuple[Trial, float]]) -> dict[Hashable, list[float]]:
    seconds: dict[Hashable, list[float]] = {}
    for trial, each in taken:
        for key in _keys(trial):
            seconds.setdefault(key, []).append(each)
    return seconds


def _expected(trial: Trial, *taken: dict[Hashable, list[float]]) -> float | None:
    """The median of the likest, of those that have ended before those under way."""
    for key in _keys(trial):
        for seconds in taken:
            if key in seconds:
                return statistics.median(seconds[key])
    return None
