"""How a trial can end, with the sentence and the remedy of each."""

from __future__ import annotations

from enum import Enum

__all__ = ["Status"]


class Status(Enum):
    """How a trial ended."""

    OK = "ok"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    ERROR = "error"
    KILLED = "killed"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        """True for a result: a flow that diverges does so again, so it is not run again."""
        return self in (Status.OK, Status.DIVERGED)

    @property
    def sentence(self) -> str:
        """What it means."""
        return _MEANING[self][0]

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return _MEANING[self][1]


_MEANING = {
    Status.OK: ("The trial finished.", "Nothing to do."),
    Status.DIVERGED: (
        "The numbers left the finite range, or a solve needed more than max_steps.",
        "A result, not an accident: lower the learning rate, or raise max_steps.",
    ),
    Status.TIMEOUT: (
        "The trial was stopped at its time limit.",
        "Raise resources.timeout_minutes and run again: it goes on from its checkpoint.",
    ),
    Status.OUT_OF_MEMORY: (
        "The trial needed more memory than there was, twice.",
        "Write gradient: checkpoint, lower the batches, run fewer trials at once (--cpus), or use "
        "a larger machine.",
    ),
    Status.ERROR: (
        "The trial raised an exception.",
        "The log that the message names has the traceback.",
    ),
    Status.KILLED: (
        "The process or its machine died more often than a trial is retried.",
        "Look for the cause on the machine, then run again: it goes on from its checkpoint.",
    ),
    Status.SKIPPED: ("The plan left the trial out.", "The plan gives the reason."),
}
