"""The durable store: what a trial leaves behind, and how it is committed.

    <root>/trials/<trial_id>/
        spec.json                     enough to run the trial alone
        choices.json                  what the first attempt decided for all (harness.choices)
        attempt-<id>/                 metrics.jsonl checkpoint/ environment.json log.txt ...
        result.json                   the commit point: the first commit wins
        replaced-<ms>/                results that a later run set aside

Neither Ray nor MLflow holds anything that a second run of the same command needs.
"""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from harness.errors import RecordError
from harness.terms import Resources
from harness.trial import Trial, decode, encode

__all__ = [
    "SCHEMA_VERSION",
    "Status",
    "TrialFolder",
    "commit",
    "dumps",
    "now",
    "read_lines",
    "read_results",
    "read_spec",
    "replace",
    "result_head",
]

SCHEMA_VERSION = 1


class Status(Enum):
    """How a trial ended."""

    OK = "ok"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    ERROR = "error"
    KILLED = "killed"
    SKIPPED = "skipped"

    @property
    def sentence(self) -> str:
        """What it means."""
        return _MEANING[self][0]

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return _MEANING[self][1]


_MEANING = {
    Status.OK: ("The trial finished.", "Nothing to do."),
    Status.DIVERGED: (
        "The numbers left the finite range, or a solve needed more than max_steps.",
        "A result, not an accident: lower the learning rate, or raise max_steps.",
    ),
    Status.TIMEOUT: (
        "The trial was stopped at its time limit.",
        "Raise resources.timeout_minutes and run again: it goes on from its checkpoint.",
    ),
    Status.OUT_OF_MEMORY: (
        "The trial needed more memory than there was, twice.",
        "Write gradient: checkpoint, lower the batches, run fewer trials at once (--cpus), or use "
        "a larger machine.",
    ),
    Status.ERROR: (
        "The trial raised an exception.",
        "The log that the message names has the traceback.",
    ),
    Status.KILLED: (
        "The process or its machine died more often than a trial is retried.",
        "Look for the cause on the machine, then run again: it goes on from its checkpoint.",
    ),
    Status.SKIPPED: ("The plan left the trial out.", "The plan gives the reason."),
}


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


def commit(path: Path, data: bytes) -> bool:
    """Publishes a file whole and durable, unless there is one: the first commit wins.

    An object store would do the same with a conditional put.

    Returns:
        True if `data` is now what `path` holds; False if another commit came first.
    """
    temporary = _write_aside(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    _sync_folder(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    """Writes a file whole and durable, over the one that is there."""
    os.replace(_write_aside(path, data), path)
    _sync_folder(path.parent)


def _write_aside(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(temporary, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class TrialFolder:
    """Where the record of one trial lies.

    Arguments:
        root: The run root.
        trial_id: The trial.
    """

    root: Path
    trial_id: str

    @property
    def path(self) -> Path:
        """The folder."""
        return self.root / "trials" / self.trial_id

    @property
    def spec(self) -> Path:
        """What runs the trial alone."""
        return self.path / "spec.json"

    @property
    def result(self) -> Path:
        """The commit point."""
        return self.path / "result.json"

    @property
    def choices(self) -> Path:
        """What the first attempt decided for all."""
        return self.path / "choices.json"

    def attempt(self, attempt_id: str) -> Path:
        """Folder of an attempt."""
        return self.path / f"attempt-{attempt_id}"

    def attempts(self) -> list[Path]:
        """Folders of all attempts, by name."""
        return sorted(self.path.glob("attempt-*"))

    def write_spec(self, trial: Trial, resources: Resources, suite: str | None = None) -> None:
        """Writes spec.json; the suites that share the trial are gathered in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        known = self.suites()
        spec = {
            "schema_version": SCHEMA_VERSION,
            "trial_id": trial.id,
            "trial": encode(trial),
            "resources": asdict(resources),
            "suites": sorted({*known, *([suite] if suite else [])}),
        }
        replace(self.spec, dumps(spec, indent=1))

    def suites(self) -> list[str]:
        """Names of the suites that have run the trial."""
        with suppress(FileNotFoundError):
            return [str(name) for name in _read(self.spec).get("suites", [])]
        return []

    def read_result(self) -> dict[str, Any] | None:
        """The committed result, None if there is none.

        Raises:
            RecordError: It is damaged.
        """
        with suppress(FileNotFoundError):
            return _read(self.result)
        return None

    def commit_result(self, result: Mapping[str, Any]) -> bool:
        """Commits the result of the trial; False if one is there."""
        return commit(self.result, dumps(result, indent=1))

    def set_aside(self, attempts: bool) -> None:
        """Makes room for another result.

        Arguments:
            attempts: Set the attempts aside as well, so that the trial starts anew.
        """
        old = [self.result, *([self.choices] if attempts else [])]
        old = [path for path in old if path.exists()] + (self.attempts() if attempts else [])
        if not old:
            return
        stamp = now()
        # Two results can be set aside within a millisecond.
        while (place := self.path / f"replaced-{stamp}").exists():
            stamp += 1
        place.mkdir()
        for path in old:
            os.replace(path, place / path.name)
        _sync_folder(self.path)

    def replaced(self) -> list[dict[str, Any]]:
        """Results that were set aside."""
        return [_read(path) for path in sorted(self.path.glob("replaced-*/result.json"))]


def read_spec(path: Path) -> tuple[Trial, Resources]:
    """Reads a spec.json.

    Raises:
        RecordError: It is absent, damaged, or not the trial it says it is.
    """
    try:
        spec = _read(path)
        trial: Trial = decode(Trial, spec["trial"])
        resources: Resources = decode(Resources, spec["resources"])
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such file") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path}: not a spec of this version: {error}") from error
    if trial.id != spec.get("trial_id"):
        raise RecordError(f"{path}: says trial {spec.get('trial_id')} but describes {trial.id}")
    return trial, resources


def read_results(root: Path) -> Iterator[dict[str, Any]]:
    """Yields all committed results under a run root, by trial id.

    Raises:
        RecordError: One is damaged.
    """
    for path in sorted(root.glob("trials/*/result.json")):
        yield _read(path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a metrics.jsonl, empty if absent; a line torn by a kill ends it."""
    lines: list[dict[str, Any]] = []
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return lines
    for text in raw.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
    return lines


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise RecordError(f"{path}: not a record")
    return value


def result_head(
    folder: TrialFolder, attempt_id: str, status: Status, message: str | None
) -> dict[str, Any]:
    """The first entries of a result.json.

    Arguments:
        folder: The trial.
        attempt_id: Its last attempt.
        status: How it ended.
        message: Why, or what is worth knowing.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "trial_id": folder.trial_id,
        "status": status.value,
        "message": message,
        "attempts": len(folder.attempts()),
        "attempt_id": attempt_id,
        "finished_ms": now(),
    }
