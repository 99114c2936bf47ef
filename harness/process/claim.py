"""Of several runs on one root at once, one works at a trial; the others wait for what comes out.

As in `harness.process.cores`, the lock is one that the kernel releases when its process dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["claimed"]

_NAME = ".claim"
_POLL_S = 0.2


@contextmanager
def claimed(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Holds the folder of a trial until the end of the block.

    Where a file system has no locks, nobody waits: of several records the first commit wins.

    Arguments:
        folder: The folder; it is made if it does not exist.
        check: Called while it waits; raises to stop.
    """
    descriptor = None
    # What cannot be written is said by whoever writes the record.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while descriptor is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                check()
                time.sleep(_POLL_S)
            except OSError:
                break
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
