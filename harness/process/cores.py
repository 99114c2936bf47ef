"""Cores of their own for each trial, and the settings that must precede a framework's import.

Locks are advisory file locks, which the kernel releases when a process dies, however it dies. They
hold between all trials of one user on a machine, whoever started them.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import HarnessError, sentence_of

__all__ = ["Lease", "lease", "pin", "private_folder", "usable_cores"]

PATIENCE_S = 5.0
"""How long to wait for free cores: a killed trial may need a moment to die."""
_POLL_S = 0.05
_MOST_TRIALS = 4096
_SYSTEM = (Path("/tmp"), Path("/var/tmp"))
_KEPT = ("JAX_PLATFORMS", "JAX_COMPILATION_CACHE", "JAX_TRACEBACK")
"""Variables of jax that say where, not what, it computes."""


def usable_cores() -> tuple[int, ...]:
    """Cores this process may run on."""
    if sys.platform == "linux":
        cores = os.sched_getaffinity(0)
    else:
        cores = set(range(os.cpu_count() or 1))
    return tuple(sorted(cores))


def private_folder() -> Path:
    """Folder of the lock files: one a user, since others' files cannot be locked.

    It lies in the system's own temporary folder, whatever TMPDIR says, since a job may have one of
    its own and runs of two jobs must see each other; where that cannot be written, TMPDIR counts.
    Anybody may have made something of that name first; the next name is taken then, by all
    processes of the user.

    Raises:
        HarnessError: There is no place for it.
    """
    name = f"cnf-harness-{os.getuid()}"
    refused: OSError | None = None
    for parent in dict.fromkeys((*_SYSTEM, Path(tempfile.gettempdir()))):
        try:
            for folder in (parent / name, *(parent / f"{name}-{k}" for k in range(2, 10))):
                with suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
                status = folder.lstat()
                owned = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
                if owned and os.access(folder, os.W_OK):
                    return folder
        except OSError as error:
            refused = error
    if refused is not None:
        place = refused.filename or "the temporary folder"
        raise HarnessError(f"{sentence_of(refused, place)}; TMPDIR names another") from refused
    raise HarnessError(f"{parent / name}: belongs to somebody else; TMPDIR names another folder")


@dataclass
class Lease:
    """What a running trial holds.

    Arguments:
        cores: The cores it is pinned to.
        own: False if there were not enough free cores, so that others may use these too.
    """

    cores: tuple[int, ...]
    own: bool
    _slot: Path
    _folder: Path

    def alone(self) -> bool:
        """True if no other trial runs on this machine now and the cores are its own."""
        return self.own and not any(
            _is_locked(path) for path in self._folder.glob("slot-*") if path != self._slot
        )


@contextmanager
def lease(
    count: int,
    *,
    exclusive: bool = False,
    folder: Path | None = None,
    patience: float = PATIENCE_S,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Lease]:
    """Leases cores until the end of the block.

    Arguments:
        count: How many; fewer are given where the machine has fewer.
        exclusive: Wait until no other trial runs on this machine, and keep others waiting.
        folder: Where the lock files lie.
        patience: Seconds to wait for free cores before sharing some.
        check: Called while it waits; raises to stop.
    """
    folder = folder or private_folder()
    held: list[int] = []
    try:
        node = os.open(folder / "node", os.O_RDWR | os.O_CREAT, 0o600)
        held.append(node)
        # In turns: a lock that blocks would not let go for a request to stop.
        while not _locked(node, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH):
            check()
            time.sleep(_POLL_S)
        slot = _first_free(folder, "slot", range(_MOST_TRIALS), 1, held)
        usable = usable_cores()
        count = min(count, len(usable))
        end = time.monotonic() + patience
        while len(cores := _first_free(folder, "core", usable, count, held)) < count:
            if time.monotonic() > end:
                break
            check()
            time.sleep(_POLL_S)
        own = len(cores) == count
        # Where trials outnumber cores they share them by turns.
        shared = [usable[(slot[0] * count + k) % len(usable)] for k in range(count)]
        chosen = cores if own else shared
        yield Lease(tuple(sorted(chosen)), own, folder / f"slot-{slot[0]}", folder)
    finally:
        for descriptor in held:
            os.close(descriptor)


def _first_free(
    folder: Path, kind: str, numbers: range | tuple[int, ...], count: int, held: list[int]
) -> list[int]:
    """Locks the first `count` free files of a kind; none of them if fewer are free."""
    locks: dict[int, int] = {}
    for number in numbers:
        if len(locks) == count:
            break
        descriptor = _try_lock(folder / f"{kind}-{number}")
        if descriptor is not None:
            locks[number] = descriptor
    if len(locks) < count:
        for descriptor in locks.values():
            os.close(descriptor)
        return []
    held.extend(locks.values())
    return list(locks)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if _locked(descriptor, fcntl.LOCK_EX):
        return descriptor
    os.close(descriptor)
    return None


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        # Shared, so that two trials that look at once do not see each other's look.
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    """Takes a lock if it is free; returns whether it was."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def pin(cores: tuple[int, ...], device: Literal["cpu", "gpu"]) -> None:
    """Binds this process to `cores` and fixes thread counts; call before numpy and frameworks.

    torch reads the thread variables; XLA's pools follow the affinity alone. Switches of jax that a
    user has set for other programs (JAX_DISABLE_JIT, JAX_DEBUG_NANS, ...) are not for a trial,
    whose spec says all that its numbers depend on.
    """
    for name in [name for name in os.environ if name.startswith("JAX_")]:
        if not name.startswith(_KEPT):
            del os.environ[name]
    count = str(len(cores))
    os.environ.update(OMP_NUM_THREADS=count, MKL_NUM_THREADS=count, OPENBLAS_NUM_THREADS=count)
    if device == "cpu":
        # A CPU trial on a GPU machine sees all GPUs otherwise, and jax reserves most of the first.
        os.environ.update(CUDA_VISIBLE_DEVICES="", JAX_PLATFORMS="cpu")
    if sys.platform == "linux":
        # Refused in some sandboxes: the environment then records the cores of the lease anyway.
        with suppress(PermissionError):
            os.sched_setaffinity(0, cores)
