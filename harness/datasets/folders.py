"""Where data files lie, their checksums, and atomic writing of derived files.

`HARNESS_DATA_DIR` is read and never written; derived files go to `HARNESS_CACHE_DIR`. Messages
name files, never folders: they end up in records, which hold no paths of a machine.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from harness import caches
from harness.caches import CACHE_DIR
from harness.errors import DataError

__all__ = [
    "absence",
    "cache_dir",
    "caching",
    "checked_file",
    "content_checksum",
    "data_dir",
    "declared_digest",
    "exclusive",
    "find",
    "publish",
    "sha256",
    "verify",
]

DATA_DIR = "HARNESS_DATA_DIR"


def data_dir() -> Path | None:
    """The folder of the user's data files, or None if `HARNESS_DATA_DIR` is not set.

    Raises:
        DataError: It names the home folder of nobody.
    """
    value = os.environ.get(DATA_DIR)
    return _expanded(DATA_DIR, value) if value else None


def cache_dir() -> Path:
    """The folder of derived files; for a user without a home one that ends with the process.

    Raises:
        DataError: `HARNESS_CACHE_DIR` names the home folder of nobody.
    """
    if value := os.environ.get(caches.CACHE_DIR):
        return _expanded(caches.CACHE_DIR, value)
    folder = caches.cache_dir()
    return folder if folder and _may_be_written(folder) else Path(_passing_folder().name)


@functools.cache
def _passing_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="cnf-harness-")


def _expanded(variable: str, value: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise DataError(f"{variable} is '{value}', and no such user has a home folder") from error


def _may_be_written(folder: Path) -> bool:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return existing.is_dir() and os.access(existing, os.W_OK)


def find(file: str) -> Path | None:
    """Path of `file` in the data folder, or None if it is not there."""
    folder = data_dir()
    if folder is None:
        return None
    path = folder / file
    return path if path.is_file() else None


def absence(file: str) -> str:
    """Why `file` cannot be read, and the remedy, as a sentence."""
    if data_dir() is None:
        return f"set {DATA_DIR} to a folder with {file}"
    return f"the folder that {DATA_DIR} names has no {file}; put it there"


def checked_file(dataset: str, file: str, checksum: str) -> Path:
    """Path of `file` in the data folder, its content verified.

    Raises:
        DataError: The file is absent or its content is not the pinned one.
    """
    path = find(file)
    if path is None:
        raise DataError(f"dataset '{dataset}': {absence(file)}")
    verify(dataset, file, path, checksum)
    return path


def verify(dataset: str, file: str, path: Path, checksum: str) -> None:
    """Compares the content of a file with its pinned checksum.

    Arguments:
        dataset: Name of the dataset, for messages.
        file: Name of the file, for messages.
        path: Where it lies.
        checksum: As its publisher states it: `md5:`, `sha256:` or `git:` and hex digits; the last
            is the id that git gives to the content.

    Raises:
        DataError: They differ.
    """
    kind, _, pinned = checksum.partition(":")
    algorithm, name = _CHECKSUMS[kind]
    digest = _hashed(path, algorithm, git=kind == "git")
    if digest != pinned:
        raise DataError(
            f"dataset '{dataset}': {file} has {name} {digest[:16]}..., expected "
            f"{pinned[:16]}...; it is incomplete or another version, fetch it again"
        )


_CHECKSUMS = {
    "md5": ("md5", "MD5"),
    "sha256": ("sha256", "SHA-256"),
    "git": ("sha1", "the git id"),
}


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    return _hashed(path, "sha256")


def _hashed(path: Path, algorithm: str, git: bool = False) -> str:
    state = hashlib.new(algorithm, usedforsecurity=False)
    if git:
        state.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    return state.hexdigest()


def declared_digest(checksum: str, loader_version: int) -> str:
    """The digest that pins a dataset in a trial's identity: raw bytes and loader version."""
    return hashlib.sha256(f"{checksum}/{loader_version}".encode()).hexdigest()[:16]


def content_checksum(path: Path) -> str:
    """SHA-256 of a user's file, remembered in the cache until the file differs.

    Its size and its time say too little: a copy keeps both. The time of the last change of its
    entry in the file system can be set by nobody. A file that has changed just now is not
    remembered, since it may change again within the resolution of that time.

    A cache that cannot be written costs time only.
    """
    now = time.time_ns()
    status = path.stat()
    place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    note = cache_dir() / "checksums" / f"{place}.json"
    key = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_bytes())
        if known["key"] == key and len(known["sha256"]) == 64:
            return str(known["sha256"])
    checksum = sha256(path)
    text = json.dumps({"key": key, "sha256": checksum}).encode()
    if now - status.st_ctime_ns < _SETTLED_NS:
        return checksum
    with contextlib.suppress(OSError):
        publish(note, lambda file: file.write(text))
    return checksum


_SETTLED_NS = 2_000_000_000


def publish(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file so that readers see all of it or nothing: temporary file, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def caching(dataset: str) -> Iterator[None]:
    """Turns what can go wrong with the cache folder into a sentence.

    Raises:
        DataError: The disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"dataset '{dataset}': the disk of {CACHE_DIR} is full; free some space, or set "
                f"{CACHE_DIR} to a folder on another disk"
            ) from error
        raise DataError(
            f"dataset '{dataset}': {CACHE_DIR} cannot be written "
            f"({error.strerror or type(error).__name__}); set it to a folder that can"
        ) from error


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Lets one process of this machine at a time derive `path`; the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
