"""The one reader of each kind of file in a run root: whole, well-formed, of known types, or named.

Records are copied, cut short and edited. Whatever is not what this version writes is a
`RecordError` with the path, the cause and the remedy; a record is never believed in part.
"""

from __future__ import annotations

import dataclasses
import json
import math
import stat
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import RecordError
from harness.records.status import Status
from harness.specs.bounds import Bound
from harness.specs.resources import Resources
from harness.trial import Trial, annotations_of, canonical_json, decode, identity_of

__all__ = [
    "SCHEMA_VERSION",
    "read_choices",
    "read_environment",
    "read_lines",
    "read_object",
    "read_result",
    "read_spec",
    "read_suites",
    "read_trained",
    "require_version",
]

SCHEMA_VERSION = 1

MAX_BYTES = 64_000_000
MAX_DEPTH = 50
_MAX_INTEGER = 2**63
"""Larger integers fit no column of a table."""

_NUMBERS = ("timing", "nfe", "memory")
_WORDS = frozenset({"timing.mode"})
_REMEDY = "move it away, and run the suite again"


def read_object(path: Path, remedy: str = _REMEDY) -> dict[str, Any] | None:
    """Reads a file that holds one JSON object, None if it is absent.

    Halves of surrogate pairs, which no terminal and no file can take, become their escapes.

    Raises:
        RecordError: The file is anything else.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            _refuse(path, "not a file", remedy)
        if status.st_size > MAX_BYTES:
            _refuse(path, f"larger than {MAX_BYTES:,} bytes", remedy)
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror}", remedy)
    try:
        value = _plain(json.loads(raw, parse_constant=_no_constant), MAX_DEPTH)
    except RecursionError:
        _refuse(path, "cannot be read: nested too deep", remedy)
    except ValueError as error:
        _refuse(path, f"cannot be read: {error}", remedy)
    if not isinstance(value, dict):
        _refuse(path, "not a JSON object", remedy)
    return value


def read_result(path: Path, trial_id: str) -> dict[str, Any] | None:
    """Reads a result.json, None if it is absent.

    Arguments:
        path: The file.
        trial_id: The trial in whose folder it lies.

    Raises:
        RecordError: It is damaged, of a later version, or the record of another trial.
    """
    result = read_object(path)
    if result is None:
        return None
    require_version(path, result)
    said = _required(path, result, "trial_id", str)
    if said != trial_id:
        _refuse(path, f"the record of trial {said}, in the folder of trial {trial_id}", _REMEDY)
    status = _required(path, result, "status", str)
    if status not in {each.value for each in Status}:
        _refuse(path, f"'status' is '{status}', which this version does not know", _REMEDY)
    _required(path, result, "attempt_id", str)
    for name in ("attempts", "finished_ms"):
        if not _is_number(value := _required(path, result, name, int)):
            _refuse(path, f"'{name}' is {value}, not a number that can be", _REMEDY)
    _optional(path, result, "message", str)
    for part in ("metrics", "environment", *_NUMBERS):
        _optional(path, result, part, dict)
    for name, metric in (result.get("metrics") or {}).items():
        if metric is not None:
            _require_metric(path, f"metrics.{name}", metric)
    for part in _NUMBERS:
        _require_numbers(path, part, result.get(part) or {})
    return result


def read_spec(path: Path) -> tuple[Trial, Resources]:
    """Reads a spec.json.

    Raises:
        RecordError: It is absent, damaged, or not the trial it says it is.
    """
    spec = read_object(path)
    if spec is None:
        raise RecordError(f"{path}: no such file")
    require_version(path, spec, required=False)
    try:
        # The identity is of what was written: a record of an earlier version says less.
        written = identity_of(canonical_json(spec["trial"]))
        trial: Trial = dataclasses.replace(decode(Trial, spec["trial"]), identity=written)
        resources: Resources = decode(Resources, spec["resources"])
        _require_bounds(resources)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise RecordError(f"{path}: not a spec of this version: {error}") from error
    if trial.id != spec.get("trial_id"):
        raise RecordError(f"{path}: says trial {spec.get('trial_id')} but describes {trial.id}")
    return trial, resources


def read_suites(path: Path) -> list[str]:
    """Names of the suites that a spec.json lists; none if it is absent.

    Raises:
        RecordError: It is damaged.
    """
    suites = (read_object(path) or {}).get("suites", [])
    if not isinstance(suites, list):
        _refuse(path, "'suites' is not a list", _REMEDY)
    return [str(name) for name in suites]


def read_choices(path: Path, gradients: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Reads a choices.json: the gradient mode, one of `gradients`, and the backend's choices.

    Raises:
        RecordError: It is absent or damaged.
    """
    remedy = "move the trial's folder away, and run the suite again: the trial starts anew"
    choices = read_object(path, remedy)
    if choices is None:
        _refuse(path, "no such file", remedy)
    gradient, backend = choices.get("gradient"), choices.get("backend")
    if gradient not in gradients:
        _refuse(path, f"'gradient' is {gradient!r}, not one of {', '.join(gradients)}", remedy)
    if not isinstance(backend, dict) or not all(isinstance(v, str) for v in backend.values()):
        _refuse(path, "'backend' is not an object of texts", remedy)
    return str(gradient), backend


def read_trained(path: Path, training_id: str) -> dict[str, Any] | None:
    """Reads a trained.json, None if it is absent.

    Arguments:
        path: The file.
        training_id: The training in whose folder it lies.

    Raises:
        RecordError: It is damaged, of a later version, or of another training.
    """
    remedy = f"remove {path.parent}, and run again"
    values = read_object(path, remedy)
    if values is None:
        return None
    if _required(path, values, "training_id", str, remedy) != training_id:
        _refuse(path, "is of another training", remedy)
    require_version(path, values)
    for kind, names in _OF_TRAINED.items():
        for name in names:
            _required(path, values, name, kind, remedy)
    for name in ("peak_host_bytes", "stale"):
        _optional(path, values, name, int)
    for name in ("timing", "nfe", "val_nll", "phase_bytes"):
        _require_numbers(path, name, values.get(name))
    return values


_OF_TRAINED: Mapping[type, tuple[str, ...]] = {
    str: ("trial_id", "attempt_id"),
    int: ("steps", "val_rows"),
    bool: ("shared",),
    dict: ("environment", "timing", "nfe"),
}


def read_environment(attempt: Path) -> dict[str, Any]:
    """The environment.json of an attempt, empty where it has none that can be read."""
    try:
        return read_object(attempt / "environment.json") or {}
    except RecordError:
        return {}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a metrics.jsonl, empty if absent.

    What is not a line of a curve (`step`, `timestamp_ms`, and numbers or null by name) is left
    out: a kill tears the last one.
    """
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return []
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror}", _REMEDY)
    return [line for line in map(_line, raw.splitlines()) if line is not None]


def _line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(line, dict) and {"step", "timestamp_ms"} <= line.keys()
    if not whole or not all(value is None or _is_number(value) for value in line.values()):
        return None
    step, at = line["step"], line["timestamp_ms"]
    return line if isinstance(step, int) and isinstance(at, int) else None


def _refuse(path: Path, cause: str, remedy: str) -> NoReturn:
    raise RecordError(f"{path}: {cause}; {remedy}")


def require_version(path: Path, values: Mapping[str, Any], required: bool = True) -> None:
    """Raises RecordError if a record is of a later version, or, where it must, names none."""
    version = values.get("schema_version")
    if version is None and not required:
        return
    if version is None:
        _refuse(path, "lacks 'schema_version'", _REMEDY)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        _refuse(
            path,
            f"of schema version {version}, and this harness knows versions up to {SCHEMA_VERSION}",
            "use the version of the harness that wrote it",
        )


def _required(
    path: Path, values: Mapping[str, Any], name: str, kind: type, remedy: str = _REMEDY
) -> Any:  # noqa: ANN401
    if name not in values:
        _refuse(path, f"lacks '{name}'", remedy)
    value = values[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        _refuse(path, f"'{name}' is not {_WORD[kind]}", remedy)
    return value


def _optional(path: Path, values: Mapping[str, Any], name: str, kind: type) -> None:
    if values.get(name) is not None:
        _required(path, values, name, kind)


_WORD: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    dict: "an object",
}


def _require_metric(path: Path, name: str, metric: Any) -> None:  # noqa: ANN401
    if not isinstance(metric, dict):
        _refuse(path, f"'{name}' is not an object", _REMEDY)
    if "value" not in metric:
        _refuse(path, f"'{name}' lacks 'value'", _REMEDY)
    if metric["value"] is not None and not _is_number(metric["value"]):
        _refuse(path, f"'{name}.value' is not a number", _REMEDY)


def _require_numbers(path: Path, name: str, value: Any) -> None:  # noqa: ANN401
    if isinstance(value, dict):
        for key, item in value.items():
            _require_numbers(path, f"{name}.{key}", item)
    elif value is not None and name not in _WORDS and not _is_number(value):
        _refuse(path, f"'{name}' is not a number", _REMEDY)


def _require_bounds(resources: Resources) -> None:
    for name, annotation in annotations_of(Resources).items():
        kind, *bounds = typing.get_args(annotation)
        value = getattr(resources, name)
        if not _is_number(value) or not isinstance(value, kind):
            raise ValueError(f"'resources.{name}' is not a number of its kind")
        for bound in bounds:
            if isinstance(bound, Bound):
                bound.check(value)


def _is_number(value: object) -> bool:
    """True for what a table can hold as a number."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_INTEGER


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _plain(value: Any, depth: int) -> Any:  # noqa: ANN401
    if depth == 0:
        raise ValueError("nested too deep")
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_plain(key, depth): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth - 1) for item in value]
    return value
