"""How the process of an attempt ended, should there be no result."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Cause", "Ended"]


class Cause(Enum):
    """Why the process of an attempt ended without a result."""

    ASKED = "somebody asked it to stop"
    DIED = "it was killed, or its machine was lost"
    HUNG = "it was killed because it hung beyond the time limit"
    MEMORY = "memory ran out"
    RAISED = "it raised an exception or left early"


class Ended(NamedTuple):
    """How the process of an attempt ended, should there be no result.

    Arguments:
        cause: Why.
        detail: The signal or error that it died of, or what it said last.
    """

    cause: Cause
    detail: str
