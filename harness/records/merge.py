"""Run roots of several machines become one: records and trained models, each once.

What both have with the same numbers, but for the rounding of two machines, is one record and a
note of the other; what they have with different numbers is a conflict, of which the first is kept
and both are named.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError, Problem
from harness.records.arrays import unpack
from harness.records.files import commit, dumps, replace, storing, sync_folder
from harness.records.folder import Damaged, TrialFolder, ids_under, trial_ids
from harness.records.readers import SCHEMA_VERSION, read_object
from harness.records.trained import TrainedFolder
from harness.records.verified import PARITY_BAR

__all__ = ["NOTES", "Merged", "merge", "notes_of"]

NOTES = "merged.json"
"""File of a trial that names attempts of other machines with the same numbers."""

_WEIGHTS = 100.0
"""Weights whose metrics agree within the tolerance may differ by so many times that: log p is flat
along some of their directions."""


@dataclass
class Merged:
    """What a merge has done.

    Arguments:
        taken: Trials that came in.
        same: Trials that were there with the same numbers, or within the tolerance of their type.
        conflicts: A sentence for each trial or trained model with other numbers.
    """

    taken: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def merge(sources: Sequence[Path], into: Path) -> Merged:
    """Brings the trials and trained models of run roots into one; the same again changes nothing.

    Nothing is moved or removed in a source. Records that are damaged are left where they are.

    Arguments:
        sources: Run roots; of equal trials with other numbers the first one's is kept.
        into: A run root, made if there is none; one that is there goes before the sources.

    Raises:
        InputError: A source is no run root.
        StorageError: The root cannot be written.
        RecordError: After all others have been merged: it names the records that are damaged.
    """
    _require_roots(sources)
    merged, damaged = Merged(), Damaged()
    for source in sources:
        if into.exists() and source.samefile(into):
            continue
        for training_id in ids_under(source / "trained"):
            with damaged:
                _merge_trained(TrainedFolder(source, training_id), into, merged)
        for trial_id in trial_ids(source):
            with damaged:
                _merge_trial(TrialFolder(source, trial_id), into, merged)
    damaged.refuse()
    return merged


def notes_of(folder: TrialFolder) -> list[Mapping[str, Any]]:
    """Attempts of other machines that ended with the same numbers.

    Raises:
        RecordError: The file of notes is damaged.
    """
    notes = (read_object(folder.path / NOTES) or {}).get("same")
    return [note for note in notes if isinstance(note, dict)] if isinstance(notes, list) else []


def _require_roots(sources: Iterable[Path]) -> None:
    problems = [
        Problem(
            str(source),
            "is no run root: it has neither trials nor trained models",
            fix="name folders that `harness run --root` has written",
        )
        for source in sources
        if not (source / "trials").is_dir() and not (source / "trained").is_dir()
    ]
    if problems:
        raise InputError(problems)


def _merge_trial(source: TrialFolder, root: Path, merged: Merged) -> None:
    trial, resources = source.read_spec()
    theirs = source.read_result()
    target = TrialFolder(root, source.trial_id)
    if not target.spec.exists():
        _copy(source.path, target.path)
        merged.taken.append(source.trial_id)
        return
    target.read_spec()
    ours = target.read_result()
    if ours is not None and theirs is not None:
        bar = PARITY_BAR[trial.dtype]
        difference = _difference(ours, theirs, bar)
        if difference is not None:
            if _rounds_otherwise(ours, theirs):
                difference += (
                    "; the two rounded differently, and `harness compare` of the two roots says "
                    "whether that is all"
                )
            merged.conflicts.append(f"trial {source.trial_id} of {source.root}: {difference}")
            return
        _note(target, ours, theirs, _largest(ours, theirs))
        merged.same.append(source.trial_id)
    elif theirs is not None:
        # What was begun here is kept beside; the record goes with its own attempts and choices.
        target.set_aside(attempts=True)
        _take_attempts(source, target)
        commit(target.result, source.result.read_bytes())
        merged.taken.append(source.trial_id)
    elif ours is None and _same_choices(source, target):
        # The next run goes on from whichever checkpoint is furthest.
        _take_attempts(source, target)
    for suite in source.suites():
        target.write_spec(trial, resources, suite)


def _same_choices(source: TrialFolder, target: TrialFolder) -> bool:
    choices = read_object(source.choices)
    return choices is not None and choices == read_object(target.choices)


def _take_attempts(source: TrialFolder, target: TrialFolder) -> None:
    for attempt in source.attempts():
        if not (target.path / attempt.name).exists():
            _copy(attempt, target.path / attempt.name)
    if source.choices.exists():
        commit(target.choices, source.choices.read_bytes())


def _merge_trained(source: TrainedFolder, root: Path, merged: Merged) -> None:
    theirs = source.read()
    if theirs is None:
        return
    target = TrainedFolder(root, source.training_id)
    ours = target.read()
    model = source.model(theirs.attempt_id)
    if ours is None:
        copy = target.model(theirs.attempt_id).parent
        if not copy.exists():
            _copy(model.parent, copy)
        commit(target.record, source.record.read_bytes())
    elif not _same_weights(target.model(ours.attempt_id), model):
        merged.conflicts.append(
            f"trained model {source.training_id} of {source.root}: other weights than those that "
            f"are there, of attempt {ours.attempt_id}"
        )


def _same_weights(ours: Path, theirs: Path) -> bool:
    """Whether two machines have trained the same weights, but for rounding."""
    if ours.read_bytes() == theirs.read_bytes():
        return True
    mine, other = unpack(ours), unpack(theirs)
    if mine.keys() != other.keys():
        return False
    for name, array in mine.items():
        if array.shape != other[name].shape or array.dtype != other[name].dtype:
            return False
        if array.dtype.kind != "f":
            if not np.array_equal(array, other[name]):
                return False
            continue
        bar = _WEIGHTS * PARITY_BAR[str(array.dtype)]
        # A weight that is no number is within no tolerance.
        if not (np.abs(array - other[name]) <= bar * np.maximum(1.0, np.abs(array))).all():
            return False
    return True


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any], bar: float) -> str | None:
    """How two results differ beyond rounding in what does not depend on where it was computed."""
    if ours["status"] != theirs["status"]:
        return f"status {ours['status']} here, {theirs['status']} there"
    different = {
        name: pair for name, pair in _pairs(ours, theirs).items() if not _agree(*pair, bar)
    }
    if not different:
        return None
    # What is trained for goes before what follows from it.
    name = next((n for n in different if n.startswith("test_")), next(iter(different)))
    more = f", and {len(different) - 1} more" if len(different) > 1 else ""
    return f"{name} {different[name][0]!r} here, {different[name][1]!r} there{more}"


def _pairs(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
    names = sorted({*(ours.get("metrics") or {}), *(theirs.get("metrics") or {})})
    return {name: (_value(ours, name), _value(theirs, name)) for name in names}


def _agree(ours: object, theirs: object, bar: float) -> bool:
    if not (isinstance(ours, int | float) and isinstance(theirs, int | float)):
        return ours == theirs
    return ours == theirs or abs(ours - theirs) <= bar * max(1.0, abs(ours))


def _largest(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """The largest difference of a metric, relative where it is above 1."""
    return max(
        (
            abs(mine - other) / max(1.0, abs(mine))
            for mine, other in _pairs(ours, theirs).values()
            if isinstance(mine, int | float) and isinstance(other, int | float) and mine != other
        ),
        default=0.0,
    )


def _rounds_otherwise(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    prints = [
        (each.get("environment") or {}).get("numerics_fingerprint") for each in (ours, theirs)
    ]
    return None not in prints and prints[0] != prints[1]


def _value(result: Mapping[str, Any], name: str) -> object:
    metric = (result.get("metrics") or {}).get(name)
    return None if metric is None else metric.get("value")


def _note(
    target: TrialFolder, ours: Mapping[str, Any], theirs: Mapping[str, Any], largest: float
) -> None:
    """Notes an attempt with the same numbers; a copy of the record itself is none."""
    notes = notes_of(target)
    known = {ours["attempt_id"], *(note.get("attempt_id") for note in notes)}
    if theirs["attempt_id"] in known:
        return
    kept = ("attempt_id", "finished_ms", "timing", "environment")
    rounding = {"largest_difference": largest} if largest else {}
    notes = [*notes, {**{name: theirs.get(name) for name in kept}, **rounding}]
    replace(target.path / NOTES, dumps({"schema_version": SCHEMA_VERSION, "same": notes}, 1))


def _copy(source: Path, target: Path) -> None:
    """Copies a folder whole: it has its name when all is there. Links mean nothing elsewhere."""
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(source, aside, ignore=_foreign)
            os.replace(aside, target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _foreign(folder: str, names: list[str]) -> set[str]:
    """What is no part of a record: links, and files that a killed writer has left."""
    return {n for n in names if n.startswith(".") or os.path.islink(os.path.join(folder, n))}
