"""Memory that is freed stays with the process: the next training step takes as much again."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), by their numbers in malloc.h."""
_LARGEST = 32 * 2**20
"""The largest threshold that glibc takes: larger blocks are mapped and unmapped one by one."""


def keep_freed_memory() -> bool:
    """Asks the C library to give no freed memory back to the system; True if it will.

    glibc gives back by default, and every page that is taken again costs a fault: a large part
    of a training step that keeps much, as mode `direct` does. Other C
    libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, -1)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST))
