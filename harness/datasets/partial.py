"""Parts of a tabular benchmark, for checks of the machinery: names that end in `-partial`.

No table may print the result on a part under the name of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from harness.datasets.arrays import ArrayDataset
from harness.datasets.base import Dataset, Declaration, Float, Loader, Split
from harness.datasets.derived import derived
from harness.datasets.files import absence, checked_file, declared_digest, find
from harness.datasets.npz import read_arrays
from harness.datasets.tables import Table, content_digest, split_writers
from harness.errors import DataError

__all__ = ["Partial", "PinnedPart"]

LOADER_VERSION = 1


@dataclass(frozen=True)
class PinnedPart(Loader):
    """A part whose content is known: the array `data` of `<name>.npz` in the data folder.

    Arguments:
        name: Name of the dataset and of its file.
        checksum: SHA-256 of the file.
        shape: Shape of its array.
        prepare: Its preprocessing.
        summary: One line for `harness list`.
    """

    name: str
    checksum: str
    shape: tuple[int, int]
    prepare: Callable[[Float], Mapping[Split, Float]]
    summary: str

    @property
    def file(self) -> str:
        """Name of its file in the data folder."""
        return f"{self.name}.npz"

    def declare(self) -> Declaration:
        """The digest is of the pinned checksum, whether the file is there or not."""
        digest = declared_digest(self.checksum, LOADER_VERSION)
        present = find(self.file) is not None
        reason = None if present else absence(self.file)
        return Declaration(self.name, digest, self.summary, present, reason)

    def load(self) -> Dataset:
        """Verifies the file, then reads and prepares it."""
        path = checked_file(self.name, self.file, self.checksum)
        data = read_arrays(self.name, path)["data"].astype(np.float64)
        if data.shape != self.shape:
            raise DataError(f"dataset '{self.name}': shape {data.shape}, expected {self.shape}")
        return ArrayDataset(self.name, self.prepare(data))


@dataclass(frozen=True)
class Partial(Loader):
    """Whatever rows a user's raw file has, prepared as those of the whole.

    The digest is of the file's content. A part that is pinned comes first.

    Arguments:
        table: The whole dataset.
        pinned: A part of known content.
    """

    table: Table
    pinned: PinnedPart | None = None

    @property
    def name(self) -> str:
        """The name of the whole, marked."""
        return f"{self.table.name}-partial"

    def declare(self) -> Declaration:
        """Available if a raw file is in the data folder; nothing is downloaded."""
        local = self.table.find()
        if self.pinned and (local is None or find(self.pinned.file)):
            return self.pinned.declare()
        summary = f"rows of an incomplete file of {self.table.name}; for checks, not for tables"
        if local is None:
            digest = declared_digest(self.name, LOADER_VERSION)
            files = " and ".join(self.table.sources[0].files)
            return Declaration(self.name, digest, summary, False, absence(files))
        return Declaration(self.name, content_digest(local[1]), summary)

    def load(self) -> Dataset:
        """Reads and prepares the rows unless that has been done before.

        Raises:
            DataError: There is no file, or it is damaged.
        """
        local = self.table.find()
        if self.pinned and (local is None or find(self.pinned.file)):
            return self.pinned.load()
        if local is None:
            raise DataError(f"dataset '{self.name}': {self.declare().reason}")
        source, paths = local

        def derive() -> Iterator[tuple[Split, Callable[[BinaryIO], None]]]:
            parts = source.read(self.name, paths, self.table.rows)
            files = " and ".join(source.files)
            yield from split_writers(self.name, files, self.table.prepare, parts)

        return ArrayDataset(self.name, derived(self.name, content_digest(paths), derive))
