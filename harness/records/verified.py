"""What came out when a recorded trial was run again.

    <root>/verified/<trial_id>/<backend>.json

One file for each backend that the trial was repeated in; the newest repetition replaces the one
before. It is of one result: a result that was committed later has not been verified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from harness.errors import RecordError
from harness.records.files import dumps, replace, storing
from harness.records.folder import ids_under
from harness.records.readers import SCHEMA_VERSION, read_object
from harness.specs.bounds import STRICT

__all__ = [
    "PARITY_BAR",
    "Parting",
    "Verdict",
    "Verification",
    "read_verifications",
    "write_verification",
]

PARITY_BAR = {"float32": 1e-5, "float64": 1e-10}
"""Bar of the parity of log p (docs/numerics.md, section 11), of max(1, |value|), by dtype."""

Verdict = Literal[
    "bitwise", "within_tolerance", "statistically", "undecided", "not_same", "not_run"
]
"""From the strongest agreement to the weakest. `undecided`: beyond the tolerance, and no other
seed says how far noise moves the result. `not_run`: the repetition has no result to compare."""


@dataclass(frozen=True)
class Parting:
    """The first place at which two curves differ.

    Arguments:
        step: Optimiser steps taken.
        quantity: Name in metrics.jsonl.
        recorded: Its recorded value.
        again: Its value in the repetition.
    """

    __pydantic_config__ = STRICT

    step: int
    quantity: str
    recorded: float | None
    again: float | None


@dataclass(frozen=True)
class Verification:
    """One repetition of a recorded trial.

    Arguments:
        trial_id: The trial.
        attempt_id: The attempt whose result was repeated.
        backend: Where it was repeated.
        verdict: How the repetition stands against the record.
        expects_bitwise: True if the same bits were due: one backend, equal numerics fingerprints.
        reason: The finding behind the verdict, a sentence.
        parted: Where the curves part; None if they do not, or none was compared.
        largest: Largest difference of a metric, in units of max(1, |recorded|); None if none
            was compared.
        weights: Numbers of the trained model that differ.
        spread: Standard deviation of the result over seeds, in its own unit; None for one seed.
        finished_ms: Time of the verdict, ms since 1970.
        harness: Version that gave the verdict.
    """

    __pydantic_config__ = STRICT

    trial_id: str
    attempt_id: str
    backend: str
    verdict: Verdict
    expects_bitwise: bool
    reason: str
    parted: Parting | None
    largest: float | None
    weights: int | None
    spread: float | None
    finished_ms: int
    harness: str

    @property
    def is_kept(self) -> bool:
        """True if the repetition agrees as far as it must."""
        if self.expects_bitwise:
            return self.verdict == "bitwise"
        return self.verdict in ("bitwise", "within_tolerance", "statistically")


_READER = TypeAdapter(Verification)


def write_verification(root: Path, verification: Verification) -> Path:
    """Writes a verification over the one before it.

    Raises:
        StorageError: The run root cannot be written.
    """
    path = _folder(root, verification.trial_id) / f"{verification.backend}.json"
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, dumps({"schema_version": SCHEMA_VERSION, **asdict(verification)}, indent=1))
    return path


def read_verifications(
    root: Path, results: Mapping[str, str] | None = None
) -> Iterator[Verification]:
    """Yields the verifications under a run root, by trial and backend.

    Arguments:
        root: The run root.
        results: Attempts by trial: only verifications of these results; None means all.

    Raises:
        RecordError: One is damaged.
    """
    for trial_id in ids_under(root / "verified"):
        if results is not None and trial_id not in results:
            continue
        for path in sorted(_folder(root, trial_id).glob("*.json")):
            verification = _read(path, trial_id)
            if results is None or results[trial_id] == verification.attempt_id:
                yield verification


def _read(path: Path, trial_id: str) -> Verification:
    remedy = f"remove {path}, and verify again"
    values: dict[str, Any] = read_object(path, remedy) or {}
    if values.pop("schema_version", None) != SCHEMA_VERSION:
        raise RecordError(f"{path}: not of schema version {SCHEMA_VERSION}; {remedy}")
    try:
        # As JSON, since an object in Python is never a dataclass to a strict reader.
        verification = _READER.validate_json(dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise RecordError(f"{path}: '{name}': {first['msg']}; {remedy}") from error
    if (verification.trial_id, verification.backend) != (trial_id, path.stem):
        said = f"{verification.trial_id} in {verification.backend}"
        raise RecordError(f"{path}: the verification of {said}, not of this place; {remedy}")
    return verification


def _folder(root: Path, trial_id: str) -> Path:
    return root / "verified" / trial_id
