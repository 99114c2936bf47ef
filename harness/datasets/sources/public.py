"""Loads a public dataset: from the data folder in any of its forms, or by download.

The raw files are read and prepared once; the arrays are then mapped to memory from the cache, so
that the trials of one machine share them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

import numpy as np

from harness.datasets.arrays import ArrayDataset
from harness.datasets.base import SPLITS, Array, Dataset, Declaration, Loader, Parts, Split
from harness.datasets.derived import Prepare, derived, is_derived, split_writers
from harness.datasets.encodings import Encoding
from harness.datasets.folders import absence, cache_dir, declared_digest
from harness.datasets.images import ImageDataset
from harness.datasets.sources.archives import extract
from harness.datasets.sources.download import Remote, download
from harness.datasets.sources.source import LOADER_VERSION, Source, content_digest
from harness.errors import DataError
from harness.interface import Likelihood

__all__ = ["PublicDataset"]

LARGEST_MEMBER = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
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
        origin: Where files that cannot be downloaded come from, in words.
        test_rows: Rows of the test split, where it is known.
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
    origin: str | None = None
    test_rows: int | None = None
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
            self.name,
            digest,
            self.summary,
            reason is None,
            reason,
            self.likelihood,
            self.shape,
            self.test_rows,
        )

    def load(self) -> Dataset:
        """Reads, checks and prepares the raw files unless that has been done before.

        Raises:
            DataError: They cannot be had, are incomplete (with the row counts) or damaged.
        """
        local = self.find()
        key = content_digest(local[1]) if local else self._digest()
        return self.made(self.name, derived(self.name, key, lambda: self._derive(local)))

    def without_rows(self) -> Dataset:
        """Shape and encoding are those of the publisher, wherever the files are."""
        nothing = np.empty((0, *self.shape), np.uint8 if self.encoding else np.float64)
        return self.made(self.name, dict.fromkeys(SPLITS, nothing))

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
        if self.remotes:
            return absence(forms) + "; or to download it: pip install 'cnf-harness[data]'"
        return absence(forms) + (f" (from {self.origin})" if self.origin else "")

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
            extracted = extract(self.name, paths[0], members, Path(folder), LARGEST_MEMBER)
            return source.read(self.name, [extracted[member] for member in members], self.rows)


def _is_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True
