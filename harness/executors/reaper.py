"""Ends what a local Ray cluster leaves behind when its driver is killed at whatever moment.

Ray's processes watch their parents, but not while they start. A small process of its own session
waits for the end of the driver, whose end of a pipe the kernel closes, and then kills every
process that has inherited the mark of the cluster. It needs /proc, and does nothing elsewhere.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["MARK", "reaped"]

MARK = "HARNESS_CLUSTER"
_KEPT = "SPT_NOENV"
"""Keeps setproctitle, with which Ray names its processes, from writing over their environment,
where the mark is looked for."""
_GRACE_S = 5.0
_POLL_S = 0.2


@contextmanager
def reaped() -> Iterator[None]:
    """What is started within the block, until `MARK` leaves the environment, ends with it."""
    mark = uuid.uuid4().hex
    reaper = subprocess.Popen(
        # -I: this file alone, without the packages beside it.
        [sys.executable, "-I", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.environ.update({MARK: mark, _KEPT: "1"})
    try:
        yield
    finally:
        for name in (MARK, _KEPT):
            os.environ.pop(name, None)
        if reaper.stdin is not None:
            reaper.stdin.close()
        # As a rule there is nothing to do; it goes on without this process if there is.
        with suppress(subprocess.TimeoutExpired):
            reaper.wait(1.0)


def _marked(mark: str) -> Iterator[int]:
    entry = f"{MARK}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if entry in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


def _reap(mark: str) -> None:
    """Waits until the driver ends, then until its cluster has, which is killed if need be."""
    sys.stdin.buffer.read()
    end = time.monotonic() + _GRACE_S
    while left := list(_marked(mark)):
        if time.monotonic() > end:
            for process in left:
                with suppress(OSError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(_POLL_S)


if __name__ == "__main__":
    _reap(sys.argv[1])
