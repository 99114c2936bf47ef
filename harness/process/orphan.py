"""The process of a trial ends when whoever waits for it is gone, whatever it is busy with."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress

__all__ = ["die_with_parent", "end_with"]

_POLL_S = 1.0
_GRACE_S = 10.0
_PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""


def end_with(parent: int) -> None:
    """Watches a parent process from a thread.

    When it is dead this process is asked to stop, so that it writes a checkpoint, and is killed
    with all that it started if it has not ended some seconds later, as in the midst of a compiler.

    Arguments:
        parent: Process id of the parent.
    """
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def die_with_parent() -> None:
    """Has Linux kill this process when its parent ends, at once; nothing elsewhere.

    A process that was forked from this one does not inherit it.
    """
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    own = os.getpid()
    os.kill(own, signal.SIGTERM)
    time.sleep(_GRACE_S)
    if os.getpgrp() == own:
        os.killpg(own, signal.SIGKILL)
    os.kill(own, signal.SIGKILL)
