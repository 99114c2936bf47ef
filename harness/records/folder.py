"""The durable store: what a trial leaves behind, and how it is committed.

    <root>/trials/<trial_id>/
        spec.json                     enough to run the trial alone
        choices.json                  what the first attempt decided for all
        attempt-<id>/                 metrics.jsonl checkpoint/ environment.json log.txt ...
        result.json                   the commit point: the first commit wins
        replaced-<ms>/                results that a later run set aside

Neither Ray nor MLflow holds anything that a second run of the same command needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import RecordError
from harness.records.files import commit, dumps, read_json, replace, set_aside
from harness.records.status import Status
from harness.specs.resources import Resources
from harness.trial import Trial, canonical_json, decode, encode, identity_of

__all__ = [
    "DEFAULT_ROOT",
    "SCHEMA_VERSION",
    "TrialFolder",
    "read_results",
    "read_spec",
    "status_of",
]

SCHEMA_VERSION = 1
DEFAULT_ROOT = Path("runs")
"""The run root where neither the command line nor HARNESS_ROOT names one."""


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
        spec = read_json(self.spec) or {}
        return [str(name) for name in spec.get("suites", [])]

    def read_result(self) -> dict[str, Any] | None:
        """The committed result, None if there is none.

        Raises:
            RecordError: It is damaged.
        """
        return read_json(self.result)

    def commit_result(self, result: Mapping[str, Any]) -> bool:
        """Commits the result of the trial; False if one is there."""
        return commit(self.result, dumps(result, indent=1))

    def set_aside(self, attempts: bool) -> None:
        """Makes room for another result.

        Arguments:
            attempts: Set the attempts aside too, so that the trial starts anew.
        """
        more = [self.choices, *self.attempts()] if attempts else []
        set_aside(self.path, [self.result, *more])

    def replaced(self) -> list[dict[str, Any]]:
        """Results that were set aside."""
        return list(_read_all(self.path, "replaced-*/result.json"))


def read_spec(path: Path) -> tuple[Trial, Resources]:
    """Reads a spec.json.

    Raises:
        RecordError: It is absent, damaged, or not the trial it says it is.
    """
    spec = read_json(path)
    if spec is None:
        raise RecordError(f"{path}: no such file")
    try:
        # The identity is of what was written: a record of an earlier version says less.
        written = identity_of(canonical_json(spec["trial"]))
        trial: Trial = dataclasses.replace(decode(Trial, spec["trial"]), identity=written)
        resources: Resources = decode(Resources, spec["resources"])
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path}: not a spec of this version: {error}") from error
    if trial.id != spec.get("trial_id"):
        raise RecordError(f"{path}: says trial {spec.get('trial_id')} but describes {trial.id}")
    return trial, resources


def read_results(root: Path, trial_ids: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yields committed results under a run root, by trial id.

    Arguments:
        root: The run root.
        trial_ids: Only these trials, no file of another is opened; None means all.

    Raises:
        RecordError: One is damaged.
    """
    if trial_ids is None:
        trial_ids = [path.parent.name for path in root.glob("trials/*/result.json")]
    for trial_id in sorted(set(trial_ids)):
        result = TrialFolder(root, trial_id).read_result()
        if result is not None:
            yield result


def status_of(result: Mapping[str, Any]) -> Status:
    """How a trial ended.

    Arguments:
        result: What result.json holds.

    Raises:
        RecordError: This version does not know its status.
    """
    try:
        return Status(result.get("status"))
    except ValueError as error:
        trial = result.get("trial_id")
        raise RecordError(f"the record of trial {trial} cannot be read: {error}") from error


def _read_all(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(pattern)):
        values = read_json(path)
        if values is not None:
            yield values
