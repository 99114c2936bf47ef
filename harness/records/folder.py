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

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError, Problem, RecordError
from harness.records.files import commit, dumps, replace, set_aside, storing
from harness.records.readers import SCHEMA_VERSION, read_result, read_spec, read_suites
from harness.specs.resources import Resources
from harness.trial import Trial, encode

__all__ = [
    "DEFAULT_ROOT",
    "Damaged",
    "Record",
    "TrialFolder",
    "find_trial",
    "ids_under",
    "read_records",
    "trial_ids",
]

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

    def begin(self, attempt_id: str) -> Path:
        """Makes the folder of an attempt.

        Raises:
            StorageError: The run root cannot be written.
        """
        path = self.attempt(attempt_id)
        with storing(path):
            path.mkdir(parents=True)
        return path

    def attempts(self) -> list[Path]:
        """Folders of all attempts, by name."""
        return sorted(path for path in self.path.glob("attempt-*") if path.is_dir())

    def write_spec(self, trial: Trial, resources: Resources, suite: str | None = None) -> None:
        """Writes spec.json; the suites that share the trial are gathered in it."""
        with storing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        known: list[str] = []
        # A damaged one is made anew: the plan has all that it said but the names of suites.
        with suppress(RecordError):
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
        return read_suites(self.spec)

    def read_spec(self) -> tuple[Trial, Resources]:
        """What spec.json holds.

        Raises:
            RecordError: It is absent, damaged, or another trial.
        """
        trial, resources = read_spec(self.spec)
        if trial.id != self.trial_id:
            raise RecordError(
                f"{self.spec}: the spec of trial {trial.id}, in the folder of trial "
                f"{self.trial_id}; move it away, and run the suite again"
            )
        return trial, resources

    def read_result(self) -> dict[str, Any] | None:
        """The committed result, None if there is none.

        Raises:
            RecordError: It is damaged, or the record of another trial.
        """
        return read_result(self.result, self.trial_id)

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
        """Results that were set aside; those that cannot be read are left out."""
        results = []
        for path in sorted(self.path.glob("replaced-*/result.json")):
            with suppress(RecordError):
                results.append(read_result(path, self.trial_id))
        return [result for result in results if result is not None]


@dataclass(frozen=True)
class Record:
    """A trial that has ended.

    Arguments:
        folder: Where its record lies.
        trial: Its spec.
        result: What result.json holds.
    """

    folder: TrialFolder
    trial: Trial
    result: Mapping[str, Any]


def trial_ids(root: Path) -> list[str]:
    """Ids of the trials that have a folder under a run root; copies of folders have other names.

    Raises:
        RecordError: The folder cannot be read.
    """
    return ids_under(root / "trials")


def find_trial(root: Path, beginning: str) -> TrialFolder:
    """The folder of one trial.

    Arguments:
        root: The run root.
        beginning: The id, or a beginning of it that no other trial shares.

    Raises:
        InputError: No trial, or more than one, has an id that begins so.
        RecordError: The folder of trials cannot be read.
    """
    matches = [name for name in trial_ids(root) if name.startswith(beginning)]
    if len(matches) == 1:
        return TrialFolder(root, matches[0])
    if matches:
        raise InputError([Problem(beginning, "several trials begin so", known=tuple(matches))])
    raise InputError(
        [
            Problem(
                beginning,
                f"no record of this trial under {root / 'trials'}",
                fix="`harness status SUITE` lists the trials of a suite; --root names another "
                "run root",
            )
        ]
    )


def ids_under(folder: Path) -> list[str]:
    """Names of a folder's entries that are ids; none if it is absent.

    Raises:
        RecordError: The folder cannot be read.
    """
    try:
        return sorted(name for name in os.listdir(folder) if _ID.fullmatch(name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"{folder}: cannot be read: {error.strerror}") from error


def read_records(root: Path, wanted: Collection[str] | None = None) -> Iterator[Record]:
    """Yields the records under a run root, by trial id; those that are damaged are left out.

    Arguments:
        root: The run root.
        wanted: Only these trials, no file of another is opened; None means all.

    Raises:
        RecordError: After the last: it names all that are damaged.
    """
    damaged = Damaged()
    for trial_id in trial_ids(root) if wanted is None else sorted(set(wanted)):
        folder = TrialFolder(root, trial_id)
        with damaged:
            result = folder.read_result()
            if result is not None:
                yield Record(folder, folder.read_spec()[0], result)
    damaged.refuse()


class Damaged:
    """Gathers the records that cannot be read, so that all are named in one pass."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        if isinstance(error, RecordError):
            self._messages.append(str(error))
            return True
        return False

    def refuse(self) -> None:
        """Raises RecordError if there were any."""
        if len(self._messages) > 1:
            self._messages.append(f"{len(self._messages)} records are damaged")
        if self._messages:
            raise RecordError("\n".join(self._messages))


_ID = re.compile("[0-9a-f]{16}")
