"""What of a run root is kept with the code: records, thinned curves, small checkpoints.

The folder it goes into is a run root itself: `harness verify --root` works on it, and `harness
merge` takes what is unfinished to where it goes on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from harness.errors import InputError, Problem
from harness.planning.plan import PlannedTrial
from harness.process.watch import began
from harness.records.files import dumps, replace, storing
from harness.records.folder import TrialFolder
from harness.records.readers import read_lines
from harness.records.status import Status
from harness.training.checkpoint import NAME, newest

__all__ = ["LARGEST_CHECKPOINT", "LINES", "Publication", "copy_records", "thinned"]

LARGEST_CHECKPOINT = 1_000_000
"""Bytes of a checkpoint above which only its curve is published."""

LINES = 60
"""About so many lines of training are kept of a curve, beside all its validations."""


@dataclass
class Publication:
    """What was copied.

    Arguments:
        ended: Trials with a result.
        begun: Trials with a checkpoint that another machine can go on from.
        too_large: Trials whose checkpoint is too large to be published.
    """

    ended: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    too_large: list[str] = field(default_factory=list)


def copy_records(
    root: Path, into: Path, suite: str, trials: Sequence[PlannedTrial]
) -> Publication:
    """Copies what is published of the trials of a suite; the same again changes nothing.

    Of a trial that has ended: spec, choices, result and the curve of its attempt. Of one that has
    begun: the checkpoint that has come furthest, unless a further one was published before. Of any
    other: its spec. Logs, samples and trained models stay behind: samples of some data sets may
    not be published, and all of them outweigh the numbers.

    Arguments:
        root: The run root.
        into: Another one; what it has of other trials stays.
        suite: Name of the suite.
        trials: The trials of the suite.

    Raises:
        InputError: Trials of the suite were run in `into`: what else they have left would go.
        RecordError: A record is damaged.
        StorageError: The folder cannot be written.
    """
    _require_kept(into, trials)
    made = Publication()
    for planned in trials:
        trial_id = planned.trial.id
        source, target = TrialFolder(root, trial_id), TrialFolder(into, trial_id)
        target.write_spec(planned.trial, planned.resources, suite)
        _copy(source, target, made)
    return made


def thinned(lines: Sequence[Mapping[str, Any]], most: int = LINES) -> list[Mapping[str, Any]]:
    """The first and the last line of a curve, all its validations, and every so many others."""
    every = max(1, math.ceil(len(lines) / most))
    last = len(lines) - 1
    return [
        line
        for index, line in enumerate(lines)
        if index % every == 0 or index == last or any(name.startswith("val_") for name in line)
    ]


def _require_kept(into: Path, trials: Sequence[PlannedTrial]) -> None:
    """Raises InputError if a trial was run in the folder, which then holds more than is kept."""
    ids = [planned.trial.id for planned in trials]
    run = [name for name in ids if any(map(began, TrialFolder(into, name).attempts()))]
    if run:
        found = f"trial {run[0]}" if len(run) == 1 else f"{len(run)} trials, as {run[0]},"
        verb = "was" if len(run) == 1 else "were"
        message = (
            f"{found} {verb} run in {into}, where publishing would remove checkpoints and logs"
        )
        raise InputError([Problem("--to", message, fix="name a folder in which nothing was run")])


def _copy(source: TrialFolder, target: TrialFolder, made: Publication) -> None:
    result = source.read_result()
    if _is_final(result):
        attempt = source.attempt(str(result["attempt_id"]))
        files = {"result.json": source.result.read_bytes(), **_curve(attempt)}
        made.ended.append(source.trial_id)
    elif _is_final(target.read_result()):
        made.ended.append(source.trial_id)
        return
    else:
        found, published = newest(source.attempts()), newest(target.attempts())
        if found is None:
            made.begun += [source.trial_id] if published else []
            return
        attempt, checkpoint = found
        if published and published[1].totals.step >= checkpoint.totals.step:
            made.begun.append(source.trial_id)
            return
        files = _curve(attempt) | _begun(attempt, made, source.trial_id)
        if result is not None:
            # Killed or timed out: a record, and the next run goes on.
            files["result.json"] = source.result.read_bytes()
    if source.choices.is_file():
        files["choices.json"] = source.choices.read_bytes()
    _write(target.path, files)


def _is_final(result: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    return result is not None and Status(result["status"]).is_final


def _curve(attempt: Path) -> dict[str, bytes]:
    lines = thinned(read_lines(attempt / "metrics.jsonl"))
    return {f"{attempt.name}/metrics.jsonl": b"".join(dumps(line) for line in lines)}


def _begun(attempt: Path, made: Publication, trial_id: str) -> dict[str, bytes]:
    """The checkpoint of an attempt and where it was written."""
    if (attempt / NAME).stat().st_size > LARGEST_CHECKPOINT:
        made.too_large.append(trial_id)
        return {}
    made.begun.append(trial_id)
    names = (NAME, "environment.json")
    return {f"{attempt.name}/{n}": (attempt / n).read_bytes() for n in names}


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes a trial's folder hold these files and its spec, nothing else."""
    with storing(folder):
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file() or path.read_bytes() != content:
                replace(path, content)
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    os.rmdir(path)
            elif path.relative_to(folder).as_posix() not in {*files, "spec.json"}:
                path.unlink()
