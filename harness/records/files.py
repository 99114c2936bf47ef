"""JSON in files that are whole or not there: encoding, atomic writes, lines that may be torn."""

from __future__ import annotations

import json
import math
import os
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import RecordError

__all__ = [
    "commit",
    "dumps",
    "now",
    "read_json",
    "read_lines",
    "replace",
    "scrub",
    "set_aside",
    "sync_folder",
]


def scrub(value: Any) -> Any:  # noqa: ANN401
    """Replaces home folders by `~`, in texts at any depth."""
    if isinstance(value, Mapping):
        return {key: scrub(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    home = str(Path.home())
    if home != "/":
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
    sync_folder(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    """Writes a file whole and durable, over the one that is there."""
    os.replace(_write_aside(path, data), path)
    sync_folder(path.parent)


def _write_aside(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(temporary, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def sync_folder(folder: Path) -> None:
    """Makes durable which names a folder has."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(folder: Path, paths: Iterable[Path]) -> None:
    """Moves what exists of some paths of a folder into a new `replaced-<time>` within it."""
    old = [path for path in paths if path.exists()]
    if not old:
        return
    stamp = now()
    # Two results can be set aside within a millisecond.
    while (place := folder / f"replaced-{stamp}").exists():
        stamp += 1
    place.mkdir()
    for path in old:
        os.replace(path, place / path.name)
    sync_folder(folder)


def read_json(path: Path) -> dict[str, Any] | None:
    """The values of a file of JSON, None if it is absent.

    Raises:
        RecordError: It cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise RecordError(f"{path}: not a record")
    return value


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
