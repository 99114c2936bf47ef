"""The raw files of a public dataset: their names in the data folder and how they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.base import Reader
from harness.datasets.folders import content_checksum, declared_digest, find, verify
from harness.datasets.sources.download import Remote

__all__ = ["LOADER_VERSION", "Source", "content_digest"]

LOADER_VERSION = 1


@dataclass(frozen=True)
class Source:
    """One form in which a dataset's raw files come.

    Arguments:
        files: Their names in the data folder; all are needed.
        read: Reads them into parts.
        checksums: Of each file, as `harness.datasets.folders.verify` takes it; empty if not
            known, and the number of rows must do.
    """

    files: tuple[str, ...]
    read: Reader
    checksums: tuple[str, ...] = ()

    @staticmethod
    def of(remotes: Sequence[Remote], read: Reader) -> Source:
        """Public files as they are."""
        files = tuple(remote.file for remote in remotes)
        return Source(files, read, tuple(remote.checksum for remote in remotes))

    def find(self) -> list[Path] | None:
        """Paths of the files, or None if one is not in the data folder."""
        paths = [path for file in self.files if (path := find(file)) is not None]
        return paths if len(paths) == len(self.files) else None

    def verify(self, dataset: str, paths: Sequence[Path]) -> None:
        """Compares the files with their checksums.

        Raises:
            DataError: One differs.
        """
        for file, path, checksum in zip(self.files, paths, self.checksums, strict=False):
            verify(dataset, file, path, checksum)


def content_digest(paths: Sequence[Path]) -> str:
    """A digest of the content of the user's files and the version of the loader."""
    checksums = "/".join(content_checksum(path) for path in paths)
    return declared_digest(hashlib.sha256(checksums.encode()).hexdigest(), LOADER_VERSION)
