"""Loads a public dataset: from the data folder in any of its forms, else by download.

The raw files are read and prepared once; the arrays are then mapped to memory from the cache, so
that the trials of one machine share them.
"""

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
from harness.datasets.encodings import Encoding
from harness.datasets.files import (
    absence,
    cache_dir,
    content_checksum,
    declared_digest,
    find,
    verify,
)
from harness.datasets.images import ImageDataset
from harness.datasets.maf_files import Parts, Reader
from harness.errors import DataError
from harness.interface import Likelihood

__all__ = ["PublicDataset", "Source", "content_digest", "split_writers"]

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
        checksums: Of each file, as `harness.datasets.files.verify` takes it; empty if they are not
            known, and the number of rows must do.
    """

    files: tuple[str, ...]
    read: Reader
    checksums: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class PublicDataset(Loader):
    """A public dataset, whole.

    The digest is that of what is published, whatever the form in which the rows come: a user's own
    file counts as the dataset if it has the pinned checksum, or if there is none, the pinned
    number of rows.

    Arguments:
        name: Name of the dataset.
        summary: One line for `harness list`.
        sources: Forms of the raw files, the preferred one first; downloads have that form.
        rows: {part: rows} of the complete data.
        shape: Shape of an example after the preprocessing.
        prepare: Makes splits from the parts, which are its keyword arguments.
        remotes: What can be downloaded: the files of the first source, or an archive with them;
            empty if nothing can.
        folder: The folder of the archive in which those files lie; None if there is no archive.
        package: A package that reading needs.
        part: Name under which an incomplete file runs; None if it cannot.
        encoding: Turns pixels into rows; None for rows that are given to the model as they are.
        flip: True if training mirrors half of the images.
    """

    name: str
    summary: str
    sources: tuple[Source, ...]
    rows: Mapping[str, int]
    shape: tuple[int, ...]
    prepare: Prepare
    remotes: tuple[Remote, ...] = ()
    folder: str | None = None
    package: str | None = None
    part: str | None = None
    encoding: Encoding | None = None
    flip: bool = False

    def declare(self) -> Declaration:
        """Available if the raw files or the arrays derived from a download are there."""
        digest, local = self._digest(), self.find()
        reason = None
        if not (self.remotes and is_derived(self.name, digest)):
            wanted = [remote for remote in self.remotes if not remote.is_here()]
            here = local is not None or (self.remotes and not wanted)
            if self.package and not _is_installed(self.package):
                reason = f"{self.package} is not installed; run: pip install 'cnf-harness[data]'"
            elif not here and wanted and _is_installed("pooch"):
                reason = f"will download {sum(remote.megabytes for remote in wanted)} MB"
            elif not here:
                reason = self.absence()
        return Declaration(
            self.name, digest, self.summary, reason is None, reason, self.likelihood
        )

    def load(self) -> Dataset:
        """Reads, checks and prepares the raw files unless that has been done before.

        Raises:
            DataError: They cannot be had, are incomplete (with the row counts) or damaged.
        """
        local = self.find()
        key = content_digest(local[1]) if local else self._digest()
        return self.made(self.name, derived(self.name, key, lambda: self._derive(local)))

    @property
    def likelihood(self) -> Likelihood:
        """`DataInfo.likelihood` of the rows."""
        return "density" if self.encoding is None else self.encoding.likelihood

    def made(self, name: str, splits: Mapping[Split, Array]) -> Dataset:
        """The dataset of prepared arrays."""
        if self.encoding is None:
            return ArrayDataset(name, splits)
        return ImageDataset(name, splits, self.encoding, self.flip)

    def find(self) -> tuple[Source, list[Path]] | None:
        """The first source whose files are all in the data folder."""
        for source in self.sources:
            if (paths := source.find()) is not None:
                return source, paths
        return None

    def absence(self) -> str:
        """Why the data cannot be read, and the remedy."""
        forms = " or ".join(" and ".join(source.files) for source in self.sources)
        remedy = "; or to download it: pip install 'cnf-harness[data]'" if self.remotes else ""
        return absence(forms) + remedy

    def _digest(self) -> str:
        if self.remotes:
            # One archive serves several datasets, and one dataset has several splits.
            pinned = "/".join([*(remote.hex_digits for remote in self.remotes), self.name])
            return declared_digest(pinned, LOADER_VERSION)
        if checksums := self.sources[0].checksums:
            pinned = "/".join(checksum.partition(":")[2] for checksum in checksums)
            return declared_digest(pinned, LOADER_VERSION)
        local = self.find()
        return content_digest(local[1]) if local else declared_digest(self.name, LOADER_VERSION)

    def _derive(
        self, local: tuple[Source, list[Path]] | None
    ) -> Iterator[tuple[Split, Callable[[BinaryIO], None]]]:
        source = local[0] if local else self.sources[0]
        parts = source.read(self.name, local[1], self.rows) if local else self._downloaded()
        files = " and ".join(source.files)
        for part, expected in self.rows.items():
            if len(parts[part]) != expected:
                what = "rows" if len(self.rows) == 1 else f"rows of '{part}'"
                end = (
                    f". An incomplete file runs only as '{self.part}', for checks of the machinery"
                )
                raise DataError(
                    f"dataset '{self.name}': {files} has {len(parts[part]):,} {what}, expected "
                    f"{expected:,}; it is incomplete or another version"
                    + (end if self.part else "")
                )
        if local:
            source.verify(self.name, local[1])
        yield from split_writers(self.name, files, self.prepare, parts, self.shape)

    def _downloaded(self) -> Parts:
        if not self.remotes:
            raise DataError(f"dataset '{self.name}': {self.absence()}")
        paths = [download(self.name, remote) for remote in self.remotes]
        source = self.sources[0]
        if self.folder is None:
            return source.read(self.name, paths, self.rows)
        members = [f"{self.folder}/{file}" for file in source.files]
        here = cache_dir() / self.name
        here.mkdir(parents=True, exist_ok=True)
        for left_behind in here.glob("extract-*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="extract-", dir=here) as folder:
            found = extract(self.name, paths[0], members, Path(folder), LARGEST_MEMBER)
            return source.read(self.name, [found[member] for member in members], self.rows)


def content_digest(paths: Sequence[Path]) -> str:
    """A digest of the content of the user's files and the version of the loader."""
    checksums = "/".join(content_checksum(path) for path in paths)
    return declared_digest(hashlib.sha256(checksums.encode()).hexdigest(), LOADER_VERSION)


def split_writers(
    dataset: str,
    files: str,
    prepare: Prepare,
    parts: Parts,
    shape: tuple[int, ...] | None = None,
) -> Iterator[tuple[Split, Callable[[BinaryIO], None]]]:
    """Prepares parts and yields each split with what writes its npy file.

    Raises:
        DataError: The parts are of other data, a split is empty or has NaN or infinite values, or
            rows do not have the given shape.
    """
    try:
        # A column that is constant, or not finite, is an error below.
        with np.errstate(divide="ignore", invalid="ignore"):
            splits = prepare(**parts)
    except (ValueError, LookupError) as error:
        shapes = " and ".join(str(rows.shape) for rows in parts.values())
        raise DataError(
            f"dataset '{dataset}': {files} holds other data, of shape {shapes}"
        ) from error
    for split, rows in splits.items():
        if len(rows) == 0:
            raise DataError(f"dataset '{dataset}': {files} is too short: '{split}' has no rows")
        if rows.shape[1:] != (shape or rows.shape[1:]):
            raise DataError(
                f"dataset '{dataset}': {files} leaves {_shape(rows.shape[1:])} dimensions, "
                f"expected {_shape(shape or ())}; it is another version"
            )
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            raise DataError(f"dataset '{dataset}': {files}: '{split}' has NaN or infinite values")
        yield split, npy_writer(rows)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _is_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True
