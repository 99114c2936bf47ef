"""The SQLite database of a mirror: made whole, used by one exporter at a time, made anew.

It is only a copy. One that MLflow cannot use is set aside, and the records fill another.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from harness.errors import HarnessError
from harness.records.files import now, storing
from harness.records.mlflow_address import database_of, shown

__all__ = [
    "DATABASE",
    "EXPERIMENT",
    "PATIENCE_S",
    "REMEDY",
    "TrackingError",
    "UnusableDatabase",
    "is_unusable",
    "locked",
    "make_database",
    "mirrored",
    "renew_database",
    "require_unlocked",
    "sqlite_uri",
    "tracking_uri",
]

DATABASE = "mlflow.db"
EXPERIMENT = "cnf-harness"
_LOCK = ".mlflow.lock"

PATIENCE_S = 8.0
"""How long the mirror waits for others, a lock or a server: it is never worth a minute."""
_LONGEST_S = 120.0
"""How long it waits for another exporter that shows that it is at work."""
_POLL_S = 0.1
_BEAT_S = 1.0


class TrackingError(HarnessError):
    """MLflow is not installed, does not answer, or refused."""


class UnusableDatabase(TrackingError):
    """A database is damaged, half made, or of another version of MLflow."""


def tracking_uri(root: Path) -> str:
    """`MLFLOW_TRACKING_URI` if it is set; otherwise a database under the run root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(root.resolve() / DATABASE)


def sqlite_uri(path: Path) -> str:
    """The address of an SQLite file, whatever characters its path has."""
    quoted = quote(str(path))
    # With the plain scheme MLflow makes the folder that the quoted path names.
    return f"sqlite{'' if quoted == str(path) else '+pysqlite'}:///{quoted}"


def mirrored(root: Path) -> frozenset[tuple[str, str, str]] | None:
    """Trial, attempt and `synced` of the runs in the database under a run root.

    It is read without MLflow, whose import takes longer than a command that has nothing to do.

    Returns:
        None if the mirror is elsewhere, or if this is no database as this version knows it: then
        MLflow itself has to be asked.
    """
    path = root.resolve() / DATABASE
    if os.environ.get("MLFLOW_TRACKING_URI") or not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return frozenset(database.execute(_MIRRORED, (EXPERIMENT,)))
    except sqlite3.Error:
        return None


_MIRRORED = """
SELECT trial.value, attempt.value, coalesce(synced.value, '')
FROM runs
JOIN experiments ON experiments.experiment_id = runs.experiment_id
JOIN tags AS trial ON trial.run_uuid = runs.run_uuid AND trial.key = 'trial_id'
JOIN tags AS attempt ON attempt.run_uuid = runs.run_uuid AND attempt.key = 'attempt_id'
LEFT JOIN tags AS synced ON synced.run_uuid = runs.run_uuid AND synced.key = 'synced'
WHERE experiments.name = ? AND runs.lifecycle_stage = 'active'
"""


@contextmanager
def locked(root: Path, uri: str) -> Iterator[None]:
    """One exporter at a time: to a database, or of a run root to a server.

    Whoever has it shows every second that it is at work; others do not wait for one who is stuck.

    Raises:
        StorageError: The folder of the lock cannot be written.
        TrackingError: Another exporter has not ended for some seconds.
    """
    path = _lock_of(root, uri)
    with storing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    with file:
        start = alive = time.monotonic()
        while not _try_lock(file.fileno()):
            if now() / 1000 - os.fstat(file.fileno()).st_mtime < 3 * _BEAT_S:
                alive = time.monotonic()
            if time.monotonic() - alive > PATIENCE_S or time.monotonic() - start > _LONGEST_S:
                raise TrackingError(
                    f"another export to {shown(uri)} has not ended for {PATIENCE_S:g} s (it holds "
                    f"{path.name}); run 'harness sync' when it has"
                )
            time.sleep(_POLL_S)
        with _beating(path):
            yield


def _lock_of(root: Path, uri: str) -> Path:
    """Where the lock lies: several roots may export to one database."""
    database = database_of(uri)
    if database is None or database == root.resolve() / DATABASE:
        return root / _LOCK
    return database.with_name(f".{database.name}.lock")


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some file systems have no locks; then nobody has to wait.
        return True
    return True


def make_database(root: Path, uri: str, fill: Callable[[str], None]) -> None:
    """Makes the database of an address, unless it is there or the address is of a server.

    MLflow makes its tables one by one, and a database whose making was cut short, by a kill or a
    full disk, is unusable for good: it gets its name when it is whole. To be called under the
    lock.

    Arguments:
        root: The run root.
        uri: The tracking store.
        fill: Makes the tables of the database of an address.

    Raises:
        TrackingError: MLflow is not installed, or the disk is full.
    """
    path = database_of(uri)
    if path is None or path.exists():
        return
    with _made_aside(path, _lock_of(root, uri), fill) as aside, storing(path):
        os.replace(aside, path)


def renew_database(root: Path, fill: Callable[[str], None]) -> Path:
    """Sets the unusable mirror of a root aside and makes another; returns where the old one is.

    Arguments:
        root: The run root.
        fill: Makes the tables of the database of an address.

    Raises:
        TrackingError: No other can be made; the old one is where it was.
    """
    path = root.resolve() / DATABASE
    old = path.with_name(f"{path.name}.unusable-{now()}")
    with _made_aside(path, root / _LOCK, fill) as aside, storing(path):
        os.replace(path, old)
        for kind in _JOURNALS:
            with suppress(FileNotFoundError):
                os.replace(f"{path}{kind}", f"{old}{kind}")
        os.replace(aside, path)
    return old


_JOURNALS = ("-journal", "-wal", "-shm")


@contextmanager
def _made_aside(path: Path, lock: Path, fill: Callable[[str], None]) -> Iterator[Path]:
    """A new database beside `path`, gone after the block unless it was renamed."""
    for left in path.parent.glob(f".{path.name}.*"):
        if left != lock:
            left.unlink(missing_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        fill(sqlite_uri(aside.resolve()))
        yield aside
    finally:
        for left in path.parent.glob(f"{aside.name}*"):
            left.unlink(missing_ok=True)


@contextmanager
def _beating(lock: Path) -> Iterator[None]:
    """Touches the lock file every second."""
    done = threading.Event()

    def beat() -> None:
        while not done.is_set():
            with suppress(OSError):
                os.utime(lock)
            done.wait(_BEAT_S)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def require_unlocked(uri: str, writing: bool = True) -> None:
    """Raises an error if a database cannot be opened; MLflow would try for an hour.

    Arguments:
        uri: The tracking store; nothing is asked of a server.
        writing: It is to be written, too.

    Raises:
        TrackingError: Another program has locked it, or it cannot be opened.
        UnusableDatabase: It is no database.
    """
    path = database_of(uri)
    if path is None:
        return
    try:
        with closing(sqlite3.connect(path, PATIENCE_S, isolation_level=None)) as base:
            base.execute("begin immediate" if writing else "begin")
            base.execute("select count(*) from sqlite_master").fetchone()
            base.execute("rollback")
    except sqlite3.OperationalError as error:
        raise TrackingError(
            f"{shown(uri)}: the mirror cannot be used ({error}); close what uses it or move it "
            "away (it is a copy of the records), then run: harness sync"
        ) from error
    except sqlite3.DatabaseError as error:
        raise UnusableDatabase(f"{shown(uri)}: {error}; {REMEDY}") from error


REMEDY = "it is a copy of the records: move it away, then run: harness sync"


def is_unusable(error: Exception) -> bool:
    """True if what MLflow raised says that the database is not what it ought to be.

    Another program's lock, a full disk or a closed folder say nothing about it.
    """
    text = str(error)
    return any(word in text for word in _UNUSABLE) and not any(word in text for word in _PASSING)


_UNUSABLE = ("(sqlite3.", "database schema", "Can't locate revision")
_PASSING = ("locked", "disk is full", "database or disk", "readonly", "unable to open", "disk I/O")
