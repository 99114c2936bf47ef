"""Loads a tabular benchmark: from the data folder in any of its forms, else from its archive."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from harness.datasets.archives import extract
from harness.datasets.arrays import ArrayDataset
from harness.datasets.base import Dataset, Declaration, Loader, Split
from harness.datasets.derived import derived, is_derived, npy_writer
from harness.datasets.download import Remote, download
from harness.datasets.files import absence, cache_dir, content_checksum, declared_digest, find
from harness.datasets.maf_files import Parts, Reader
from harness.errors import DataError

__all__ = ["Source", "Table", "content_digest", "split_writers"]

LOADER_VERSION = 1
LARGEST_MEMBER = 2_000_000_000

Array = npt.NDArray[Any]
Prepare = Callable[..., Mapping[Split, Array]]


@dataclass(frozen=True)
class Source:
    """One form in which a dataset's raw files come.

    Arguments:
        files: Their names in the data folder; all are needed.
        read: Reads them into parts.
    """

    files: tuple[str, ...]
    read: Reader

    def find(self) -> list[Path] | None:
        """Paths of the files, or None if one is not in the data folder."""
        paths = [path for file in self.files if (path := find(file)) is not None]
        return paths if len(paths) == len(self.files) else None


@dataclass(frozen=True)
class Table(Loader):
    """A tabular benchmark, whole.

    The raw files are read and prepared once; the arrays are then mapped from the cache. The digest
    is that of the archive, whatever the form in which the rows come: a user's own file counts as
    the dataset if it has the pinned number of rows.

    Arguments:
        name: Name of the dataset.
        summary: One line for `harness list`.
        sources: Forms of the raw files, the preferred one first; the archive holds the first.
        rows: {part: rows} of the complete data.
        width: Dimensions after the preprocessing.
        prepare: Makes splits from the parts, which are its keyword arguments.
        remote: The archive; None if the data cannot be downloaded.
        folder: The folder of the archive in which the files of the first source lie.
        package: A package that reading needs.
    """

    name: str
    summary: str
    sources: tuple[Source, ...]
    rows: Mapping[str, int]
    width: int
    prepare: Prepare
    remote: Remote | None = None
    folder: str = "data"
    package: str | None = None

    def declare(self) -> Declaration:
        """Available if the raw files or the arrays derived from the archive are there."""
        digest, local = self._digest(), self.find()
        reason = None
        if not (self.remote and is_derived(self.name, digest)):
            here = local is not None or (self.remote is not None and self.remote.is_here())
            if self.package and not _is_installed(self.package):
                reason = f"{self.package} is not installed; run: pip install 'cnf-harness[data]'"
            elif not here and self.remote and _is_installed("pooch"):
                reason = f"will download {self.remote.megabytes} MB"
            elif not here:
                reason = self.absence()
        return Declaration(self.name, digest, self.summary, reason is None, reason)

    def load(self) -> Dataset:
        """Reads, checks and prepares the raw files unless that has been done before.

        Raises:
            DataError: They cannot be had, are incomplete (with the row counts) or damaged.
        """
        local = self.find()
        key = content_digest(local[1]) if local else self._digest()
        return ArrayDataset(self.name, derived(self.name, key, lambda: self._derive(local)))

    def find(self) -> tuple[Source, list[Path]] | None:
        """The first source whose files are all in the data folder."""
        for source in self.sources:
            if (paths := source.find()) is not None:
                return source, paths
        return None

    def absence(self) -> str:
        """Why the data cannot be read, and the remedy."""
        forms = " or ".join(" and ".join(source.files) for source in self.sources)
        remedy = "; or to download it: pip install 'cnf-harness[data]'" if self.remote else ""
        return absence(forms) + remedy

    def _digest(self) -> str:
        if self.remote is not None:
            return declared_digest(f"{self.remote.md5}/{self.name}", LOADER_VERSION)
        local = self.find()
        return content_digest(local[1]) if local else declared_digest(self.name, LOADER_VERSION)

    def _derive(
        self, local: tuple[Source, list[Path]] | None
    ) -> Iterator[tuple[Split, Callable[[BinaryIO], None]]]:
        parts = local[0].read(self.name, local[1], self.rows) if local else self._from_archive()
        files = " and ".join((local[0] if local else self.sources[0]).files)
        for part, expected in self.rows.items():
            if len(parts[part]) != expected:
                what = "rows" if len(self.rows) == 1 else f"rows of '{part}'"
                raise DataError(
                    f"dataset '{self.name}': {files} has {len(parts[part]):,} {what}, expected "
                    f"{expected:,}; it is incomplete or another version. An incomplete file runs "
                    f"only as '{self.name}-partial', for checks of the machinery"
                )
        yield from split_writers(self.name, files, self.prepare, parts, self.width)

    def _from_archive(self) -> Parts:
        if self.remote is None:
            raise DataError(f"dataset '{self.name}': {self.absence()}")
        archive, source = download(self.name, self.remote), self.sources[0]
        members = [f"{self.folder}/{file}" for file in source.files]
        here = cache_dir() / self.name
        here.mkdir(parents=True, exist_ok=True)
        for left_behind in here.glob("extract-*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="extract-", dir=here) as folder:
            found = extract(self.name, archive, members, Path(folder), LARGEST_MEMBER)
            return source.read(self.name, [found[member] for member in members], self.rows)


def content_digest(paths: Sequence[Path]) -> str:
    """A digest of the content of the user's files and the version of the loader."""
    checksums = "/".join(content_checksum(path) for path in paths)
    return declared_digest(hashlib.sha256(checksums.encode()).hexdigest(), LOADER_VERSION)


def split_writers(
    dataset: str, files: str, prepare: Prepare, parts: Parts, width: int | None = None
) -> Iterator[tuple[Split, Callable[[BinaryIO], None]]]:
    """Prepares parts and yields each split with what writes its npy file.

    Raises:
        DataError: The parts are of another table, a split is empty or has NaN or infinite values,
            or rows do not have `width` dimensions.
    """
    try:
        # A column that is constant, or not finite, is an error below.
        with np.errstate(divide="ignore", invalid="ignore"):
            splits = prepare(**parts)
    except (ValueError, LookupError) as error:
        shapes = " and ".join(str(rows.shape) for rows in parts.values())
        raise DataError(
            f"dataset '{dataset}': {files} holds another table, of shape {shapes}"
        ) from error
    for split, rows in splits.items():
        if len(rows) == 0:
            raise DataError(f"dataset '{dataset}': {files} is too short: '{split}' has no rows")
        if rows.shape[1] != (width or rows.shape[1]):
            raise DataError(
                f"dataset '{dataset}': {files} leaves {rows.shape[1]} dimensions, expected "
                f"{width}; it is another version"
            )
        if not np.isfinite(rows).all():
            raise DataError(f"dataset '{dataset}': {files}: '{split}' has NaN or infinite values")
        yield split, npy_writer(rows)


def _is_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True
