"""When a trial is tried again, and what its record says when it is not.

A lost machine or a killed process goes on from the checkpoint; memory that ran out gets a second
chance; a numerical failure is a result and has none.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RecordError
from harness.executors.ending import Cause, Ended
from harness.executors.observer import Observer, Stop
from harness.planning.plan import PlannedTrial
from harness.process.memory import oom_kills, says_memory
from harness.process.watch import began, lost_seconds
from harness.records.files import scrub
from harness.records.folder import TrialFolder
from harness.records.readers import read_environment
from harness.records.result import Result
from harness.records.status import Status

__all__ = [
    "CRASHES",
    "GRACE_S",
    "MEMORY",
    "Again",
    "Deadline",
    "Failure",
    "Retries",
]

CRASHES = 3
"""How often a trial whose process died is resumed."""
MEMORY = 1
"""How often a trial that ran out of memory is tried again."""
GRACE_S = 30.0
"""A trial stops of its own accord at its time limit; one that hangs is killed so much later."""


@dataclass(frozen=True)
class Again:
    """The trial is tried again; the note says why."""

    note: str


@dataclass(frozen=True)
class Failure:
    """The trial is given up.

    Arguments:
        status: How it ended.
        message: Why.
    """

    status: Status
    message: str

    def commit(self, folder: TrialFolder, attempt_id: str) -> None:
        """Commits the result of a trial whose process cannot do it any more.

        Arguments:
            folder: The trial.
            attempt_id: Its last attempt.
        """
        lost_s = sum((lost_seconds(path) for path in folder.attempts()), 0.0)
        Result(
            self.status,
            scrub(self.message.replace(str(folder.root.resolve()), "<root>")),
            timing={"lost_s": lost_s, "mode": "shared"},
            environment=read_environment(folder.attempt(attempt_id)),
        ).commit(folder, attempt_id)


class Retries:
    """What becomes of trials when their attempts end, by whatever executor; counts by cause.

    Arguments:
        root: The run root.
        observer: Hears what becomes of the trials.
        stop: Says whether the run is being stopped.
    """

    def __init__(self, root: Path, observer: Observer, stop: Stop) -> None:
        self._root, self._observer, self._stop = root, observer, stop
        self._counts: Counter[tuple[str, Cause]] = Counter()
        self._oom_kills = oom_kills()

    def settle(self, planned: PlannedTrial, attempt_id: str, ended: Ended) -> bool:
        """Takes in the end of an attempt; returns True if the trial is to be tried again.

        Otherwise it has a committed result, or the run is being stopped.
        """
        folder = TrialFolder(self._root, planned.trial.id)
        try:
            result = folder.read_result()
        except RecordError as error:
            # Somebody damaged it meanwhile; the other trials go on.
            self._observer.note(str(error))
            self._observer.ended(planned, Status.ERROR)
            return False
        if result is not None:
            self._observer.ended(planned, Status(result["status"]))
            return False
        if self._stop.requested:
            self._observer.stopped(planned)
            return False
        decision = self.decide(planned, self._true_cause(ended, folder.attempt(attempt_id)))
        if isinstance(decision, Again):
            self._observer.note(f"{planned.trial.id}: {decision.note}")
            return True
        decision.commit(folder, attempt_id)
        self._observer.ended(planned, decision.status)
        return False

    def _true_cause(self, ended: Ended, attempt: Path) -> Ended:
        """Memory, where the kernel or the attempt's log says so; the process said nothing."""
        if ended.cause not in (Cause.DIED, Cause.RAISED):
            return ended
        kills, self._oom_kills = self._oom_kills, oom_kills()
        if (ended.cause is Cause.DIED and self._oom_kills > kills) or says_memory(_tail(attempt)):
            return Ended(Cause.MEMORY, ended.detail)
        return ended

    def decide(self, planned: PlannedTrial, ended: Ended) -> Again | Failure:
        """Decides whether a trial without a result is tried again, and counts it."""
        key = planned.trial.id, ended.cause
        self._counts[key] += 1
        match ended.cause:
            case Cause.ASKED:
                return Again("its process was asked to stop; it is resumed")
            case Cause.DIED:
                if self._counts[key] <= CRASHES:
                    return Again(f"its process or node died ({ended.detail}); it is resumed")
                message = (
                    f"its process or node died again after retries ({ended.detail}); {_REMEDY}"
                )
                return Failure(Status.KILLED, message)
            case Cause.HUNG:
                minutes = planned.resources.timeout_minutes
                message = f"killed: it hung beyond its {minutes:.3g} minutes"
                return Failure(Status.TIMEOUT, message)
            case Cause.MEMORY:
                if self._counts[key] <= MEMORY:
                    return Again("out of memory; it is tried once more")
                message = (
                    "its process was killed for want of memory, twice; try another gradient mode "
                    "(adjoint), a smaller batch, or a higher limit"
                )
                return Failure(Status.OUT_OF_MEMORY, message)
            case Cause.RAISED:
                return Failure(Status.ERROR, ended.detail)

    def has_memory_retry(self, trial_id: str) -> bool:
        """True if the trial may still run out of memory without a record of it."""
        return self._counts[trial_id, Cause.MEMORY] < MEMORY


_REMEDY = (
    "the usual cause is a memory limit of the machine, the container or the batch system: try "
    "another gradient mode (adjoint), a smaller batch, or a higher limit"
)
_TAIL_BYTES = 2000


def _tail(attempt: Path) -> str:
    """The end of what an attempt printed."""
    try:
        with open(attempt / "log.txt", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


class Deadline:
    """Says when an attempt hangs: some time after the limit at which it ought to stop.

    Its time begins when it has its cores, not while it waits for them.

    Arguments:
        planned: The trial.
        attempt: Folder of the attempt.
    """

    def __init__(self, planned: PlannedTrial, attempt: Path) -> None:
        self._limit_s = planned.resources.timeout_minutes * 60 + GRACE_S
        self._attempt = attempt
        self._began: float | None = None

    def is_over(self) -> bool:
        """True if the attempt hangs; to be asked from its start on, a few times a second."""
        if self._began is None and began(self._attempt):
            self._began = time.monotonic()
        return self._began is not None and time.monotonic() - self._began > self._limit_s
