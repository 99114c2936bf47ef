"""Single files out of a tar archive, by their exact names and within bounds."""

from __future__ import annotations

import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import IO

from harness.datasets.folders import publish
from harness.errors import DataError

__all__ = ["extract"]


def extract(
    dataset: str, archive: Path, members: Collection[str], folder: Path, largest: int
) -> dict[str, Path]:
    """Copies members of a compressed tar archive into a folder.

    Only regular files are copied, under names that we choose; links, devices, owners and
    permissions of the archive mean nothing. An archive in which any path climbs out of its folder
    is refused as a whole.

    Arguments:
        dataset: Name of the dataset, for messages.
        archive: The archive.
        members: Names of the members.
        folder: An existing folder of our own.
        largest: Most bytes that a member may have.

    Returns:
        {member: path of the copy}.

    Raises:
        DataError: The archive is damaged, lacks a member, or holds what it should not.
    """
    extracted: dict[str, Path] = {}
    try:
        # A compressed stream is read once from its beginning, never backwards.
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                name = _safe_name(dataset, archive, member.name)
                if name not in members or name in extracted:
                    continue
                if not member.isreg() or member.size > largest:
                    raise DataError(
                        f"dataset '{dataset}': in {archive.name}, {name} is not a file of at "
                        f"most {largest // 1_000_000} MB; nothing was taken from it"
                    )
                content = tar.extractfile(member)
                if content is None:
                    raise tarfile.ReadError(name)
                extracted[name] = folder / f"{len(extracted)}-{PurePosixPath(name).name}"
                _copy(content, member.size, extracted[name])
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(
            f"dataset '{dataset}': {archive.name} is damaged or cut short; fetch it again"
        ) from error
    missing = sorted(set(members) - set(extracted))
    if missing:
        raise DataError(f"dataset '{dataset}': {archive.name} has no {' and no '.join(missing)}")
    return extracted


def _safe_name(dataset: str, archive: Path, name: str) -> str:
    clean = posixpath.normpath(name)
    if clean.startswith(("/", "../")) or clean == ".." or "\\" in name:
        raise DataError(
            f"dataset '{dataset}': {archive.name} holds a path that climbs out of its folder; "
            "nothing was taken from it"
        )
    return clean


def _copy(content: IO[bytes], size: int, path: Path) -> None:
    publish(path, lambda file: shutil.copyfileobj(content, file, 1 << 20))
    if path.stat().st_size != size:
        path.unlink()
        raise tarfile.ReadError(path.name)
