"""Parts of a public dataset, for checks of the machinery: names that end in `-partial`.

No table may print the result on a part under the name of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from harness.datasets.base import Dataset, Declaration, Loader, Split
from harness.datasets.derived import derived, split_writers
from harness.datasets.folders import absence, declared_digest
from harness.datasets.sources.public import PublicDataset
from harness.datasets.sources.source import content_digest
from harness.errors import DataError

__all__ = ["Partial"]

LOADER_VERSION = 1


@dataclass(frozen=True)
class Partial(Loader):
    """Whatever rows a user's raw files have, prepared as those of the whole.

    The digest is of the files' content. A part of known content comes first.

    Arguments:
        whole: The whole dataset; its `part` is the name.
        pinned: A part of known content.
    """

    whole: PublicDataset
    pinned: PublicDataset | None = None

    @property
    def name(self) -> str:
        """The name of the whole, marked."""
        return str(self.whole.part)

    def declare(self) -> Declaration:
        """Available if raw files are in the data folder; nothing is downloaded."""
        local = self.whole.find()
        if self.pinned and (local is None or self.pinned.find()):
            return self.pinned.declare()
        summary = f"rows of an incomplete file of {self.whole.name}; for checks, not for tables"
        likelihood = self.whole.likelihood
        # Which columns a table keeps may depend on the rows that are there.
        shape = self.whole.shape if self.whole.encoding else None
        if local is None:
            digest = declared_digest(self.name, LOADER_VERSION)
            files = " and ".join(self.whole.sources[0].files)
            reason = absence(files)
            return Declaration(self.name, digest, summary, False, reason, likelihood, shape)
        digest = content_digest(local[1])
        return Declaration(self.name, digest, summary, likelihood=likelihood, event_shape=shape)

    def load(self) -> Dataset:
        """Reads and prepares the rows unless that has been done before.

        Raises:
            DataError: There is no file, or it is damaged.
        """
        local = self.whole.find()
        if self.pinned and (local is None or self.pinned.find()):
            return self.pinned.load()
        if local is None:
            raise DataError(f"dataset '{self.name}': {self.declare().reason}")
        source, paths = local

        def derive() -> Iterator[tuple[Split, Callable[[BinaryIO], None]]]:
            parts = source.read(self.name, paths, self.whole.rows)
            files = " and ".join(source.files)
            yield from split_writers(self.name, files, self.whole.prepare, parts)

        return self.whole.made(self.name, derived(self.name, content_digest(paths), derive))
