"""What trials were expected to take when they were started, to be held against what they took.

<root>/estimates/<suite>.json
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from harness.errors import RecordError
from harness.records.files import dumps, replace, storing
from harness.records.readers import SCHEMA_VERSION, read_object
from harness.specs.bounds import STRICT

__all__ = ["Estimate", "read_estimates", "write_estimates"]


@dataclass(frozen=True)
class Estimate:
    """What a trial is expected to take.

    Arguments:
        seconds: The expectation.
        low: Lower end of its range, in seconds.
        high: Upper end, in seconds.
        basis: What it rests on: `records` of the same shape, or a `probe`.
        n: How many of them.
    """

    __pydantic_config__ = STRICT

    seconds: float
    low: float
    high: float
    basis: Literal["records", "probe"]
    n: int


_READER = TypeAdapter(dict[str, Estimate])


def write_estimates(root: Path, suite: str, estimates: Mapping[str, Estimate]) -> None:
    """Adds estimates by trial to those of earlier runs of a suite.

    Raises:
        RecordError: The file that is there is damaged, or the run root cannot be written.
    """
    path = _path(root, suite)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    every = {**read_estimates(root, suite), **estimates}
    plain = {trial_id: asdict(each) for trial_id, each in every.items()}
    replace(path, dumps({"schema_version": SCHEMA_VERSION, "trials": plain}, indent=1))


def read_estimates(root: Path, suite: str) -> dict[str, Estimate]:
    """Estimates by trial; none if the suite was never started with any.

    Raises:
        RecordError: The file is damaged.
    """
    path = _path(root, suite)
    remedy = f"remove {path}: it holds nothing that a run needs"
    values = read_object(path, remedy)
    if values is None:
        return {}
    if values.get("schema_version") != SCHEMA_VERSION:
        raise RecordError(f"{path}: not of schema version {SCHEMA_VERSION}; {remedy}")
    try:
        return _READER.validate_json(dumps(values.get("trials")))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise RecordError(f"{path}: 'trials.{name}': {first['msg']}; {remedy}") from error


def _path(root: Path, suite: str) -> Path:
    return root / "estimates" / f"{suite}.json"
