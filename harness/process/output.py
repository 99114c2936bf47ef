"""What a trial prints, and what libraries below Python print, sent to its log."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.records.files import storing

__all__ = ["captured"]


@contextmanager
def captured(path: Path | None) -> Iterator[None]:
    """Sends file descriptors 1 and 2 to a file, so that the output of libraries lands there too.

    Arguments:
        path: The file, which is appended to; None changes nothing.
    """
    if path is None:
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with storing(path):
        file = open(path, "ab", buffering=0)  # noqa: SIM115
    with file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        # What a full disk did not take is lost.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        for number, descriptor in enumerate(kept, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)
