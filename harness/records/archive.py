"""A run root in one file: the records of trials, their curves and samples, their trained models.

A zip file that is a run root when it is unpacked. Logs, checkpoints and what a run root holds
beside its records stay behind.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from harness.errors import RecordError
from harness.records.files import storing
from harness.records.folder import TrialFolder
from harness.records.merge import NOTES
from harness.records.trained import TrainedFolder

__all__ = ["unpack_archive", "write_archive"]

_MEMBER = re.compile(r"(trials|trained)/[0-9a-f]{16}/(attempt-\w+/)?\w[\w.]*")
_OF_TRIAL = ("spec.json", "result.json", "choices.json", NOTES)
_OF_ATTEMPT = ("metrics.jsonl", "environment.json", "samples.safetensors")
_MODEL = "model.safetensors"
_EPOCH = (1980, 1, 1, 0, 0, 0)

LARGEST_MEMBER = 4 << 30
PACKED_AT_MOST = 300
ALWAYS_FINE = 1 << 30
"""Bytes up to which an archive may be packed as tightly as can be."""


def write_archive(root: Path, trials: Iterable[str], out: Path) -> int:
    """Writes the archive of some trials of a root; equal records make equal files.

    Arguments:
        root: The run root.
        trials: Ids; those without a result are left out.
        out: The file.

    Returns:
        How many trials it holds.

    Raises:
        RecordError: A record is damaged.
        StorageError: The file cannot be written.
    """
    members: dict[str, Path] = {}
    count = 0
    for trial_id in sorted(trials):
        folder = TrialFolder(root, trial_id)
        result = folder.read_result()
        if result is not None:
            count += 1
            for path in _files(folder, str(result["attempt_id"])):
                members[path.relative_to(root).as_posix()] = path
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    with storing(out):
        try:
            _write(aside, members)
            os.replace(aside, out)
        finally:
            aside.unlink(missing_ok=True)
    return count


def _write(path: Path, members: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, source in sorted(members.items()):
            member = zipfile.ZipInfo(name, _EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            with source.open("rb") as content, archive.open(member, "w", force_zip64=True) as file:
                shutil.copyfileobj(content, file)


def _files(folder: TrialFolder, attempt_id: str) -> Iterator[Path]:
    """Files of a trial that a colleague has a use for."""
    trial, _ = folder.read_spec()
    trained = TrainedFolder(folder.root, trial.training_id)
    record = trained.read()
    wanted = [folder.path / name for name in _OF_TRIAL]
    wanted += [attempt / name for attempt in folder.attempts() for name in _OF_ATTEMPT]
    if record is None:
        wanted.append(folder.attempt(attempt_id) / _MODEL)
    else:
        model, lines = trained.model(record.attempt_id), trained.lines(record.attempt_id)
        wanted += [trained.record, model, lines]
    yield from (path for path in wanted if path.is_file() and not path.is_symlink())


def unpack_archive(path: Path, folder: Path) -> None:
    """Unpacks an archive into an empty folder, which is a run root then.

    Only plain files under names that an archive of ours has are taken; links, paths that climb
    out and promises of more than is there make the whole archive be refused.

    Raises:
        RecordError: It is no archive of ours, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _require_ours(path, members)
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                # No more is read than the member says it has, and its checksum is verified.
                with archive.open(member) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise RecordError(
            f"{path}: is no archive that `harness archive` has written, or it is damaged: {error}"
        ) from error


def _require_ours(path: Path, members: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        mode = member.external_attr >> 16
        if not _MEMBER.fullmatch(member.filename) or (mode and not _is_plain(mode)):
            _refuse(path, f"holds {member.filename[:80]!r}, which no record has")
        if member.filename in seen or member.file_size > LARGEST_MEMBER:
            _refuse(path, f"holds {member.filename} twice, or larger than it can be")
        seen.add(member.filename)
    size = sum(member.file_size for member in members)
    if size > max(ALWAYS_FINE, PACKED_AT_MOST * sum(m.compress_size for m in members)):
        _refuse(path, f"promises {size:,} bytes, far more than it has")


def _is_plain(mode: int) -> bool:
    return stat.S_IFMT(mode) in (0, stat.S_IFREG)


def _refuse(path: Path, cause: str) -> NoReturn:
    raise RecordError(f"{path}: {cause}; nothing of it was used")
