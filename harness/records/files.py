"""JSON in files that are whole or not there: encoding, atomic writes."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.errors import StorageError, sentence_of

__all__ = [
    "commit",
    "dumps",
    "now",
    "replace",
    "scrub",
    "set_aside",
    "storing",
    "sweep",
    "sync_folder",
]


def scrub(value: Any) -> Any:  # noqa: ANN401
    """Replaces home folders by `~`, in texts at any depth."""
    if isinstance(value, Mapping):
        return {key: scrub(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    home = os.path.expanduser("~")
    # "~" itself where the user has none.
    if home not in ("/", "~"):
        value = re.sub(rf"{re.escape(home)}(?=/|$|\W)", "~", value)
    return re.sub(r"/(home|Users)/[^/\s'\":]+", "~", value)


def now() -> int:
    """The time of day for timestamps, in ms since 1970."""
    return time.time_ns() // 1_000_000


def dumps(value: Any, indent: int | None = None) -> bytes:  # noqa: ANN401
    """Encodes JSON values; NaN and infinity become null."""
    text = json.dumps(_finite(value), allow_nan=False, ensure_ascii=False, indent=indent)
    return (text + "\n").encode()


def _finite(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@contextmanager
def storing(place: Path) -> Iterator[None]:
    """Turns what the operating system refuses into a sentence.

    Arguments:
        place: What is written, as the message shall name it.

    Raises:
        StorageError: The block raised OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(sentence_of(error, place)) from error


def commit(path: Path, data: bytes) -> bool:
    """Publishes a file whole and durable, unless there is one: the first commit wins.

    A hard link is the only name that the file system gives once. Where it has none (FAT, some
    network and FUSE mounts), a lock stands in for it. An object store would do the same with a
    conditional put.

    Returns:
        True if `data` is now what `path` holds; False if another commit came first.

    Raises:
        StorageError: The folder cannot be written, or has neither hard links nor locks.
    """
    with storing(path), _written_aside(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if not _rename_locked(temporary, path):
                return False
        sync_folder(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    """Writes a file whole and durable, over the one that is there.

    Raises:
        StorageError: The folder cannot be written.
    """
    with storing(path), _written_aside(path, data) as temporary:
        os.replace(temporary, path)
        sync_folder(path.parent)


@contextmanager
def _written_aside(path: Path, data: bytes) -> Iterator[Path]:
    """A file beside `path` that holds `data`, durable, and gone after the block."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()


def _rename_locked(temporary: Path, path: Path) -> bool:
    """Renames a file if its new name is free, one process at a time."""
    with open(path.with_name(f".{path.name}.lock"), "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise StorageError(
                f"{path.parent}: its file system has neither hard links nor file locks, and no "
                "record can be committed there; name a folder on another one with --root"
            ) from error
        if path.exists():
            return False
        os.replace(temporary, path)
    return True


_NO_LINKS = frozenset(
    (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
)
_NO_FOLDER_SYNC = frozenset((errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES))


def sync_folder(folder: Path) -> None:
    """Makes durable which names a folder has, where the file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def sweep(folder: Path, older_s: float = 3600.0) -> None:
    """Removes what killed writers have left under a folder.

    Arguments:
        folder: The folder, all folders in it included.
        older_s: Age in seconds from which nobody can still be writing a file.
    """
    for path in folder.rglob(".*"):
        if _ASIDE.fullmatch(path.name):
            with suppress(OSError):
                status = path.stat()
                old = now() / 1000 - status.st_mtime > older_s
                if old and status.st_uid == os.getuid():
                    path.unlink()


_ASIDE = re.compile(r"\..+\.[0-9a-f]{32}")


def set_aside(folder: Path, paths: Iterable[Path]) -> None:
    """Moves what exists of some paths of a folder into a new `replaced-<time>` within it."""
    old = [path for path in paths if path.exists()]
    if not old:
        return
    stamp = now()
    # Two results can be set aside within a millisecond.
    while (place := folder / f"replaced-{stamp}").exists():
        stamp += 1
    with storing(folder):
        place.mkdir()
        for path in old:
            os.replace(path, place / path.name)
        sync_folder(folder)
