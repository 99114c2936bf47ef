"""A user's own `<name>.npz` in the data folder: arrays `train`, `val` and `test`, or `data`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from harness.datasets.arrays import ArrayDataset, shuffle_and_split
from harness.datasets.base import SPLITS, Dataset, Declaration, Loader, Parts, Split
from harness.datasets.folders import content_checksum, declared_digest
from harness.datasets.formats.npz import names_in, read_npz
from harness.errors import DataError

__all__ = ["NpzFile", "parts"]

LOADER_VERSION = 1

Array = npt.NDArray[np.generic]


def parts(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """Reads an npz file that stands for a public dataset: its parts are the arrays of that name.

    Raises:
        DataError: The file is not an npz file of plain arrays, or lacks one.
    """
    (path,) = paths
    arrays = read_npz(dataset, path, rows)
    missing = [part for part in rows if part not in arrays]
    if missing:
        raise DataError(f"dataset '{dataset}': {path.name} has no array '{missing[0]}'")
    return {part: arrays[part] for part in rows}


@dataclass(frozen=True)
class NpzFile(Loader):
    """Rows given to the model as they are, in float64; the density is that of these numbers.

    Integer levels must be dequantised before: a density on them has no upper bound.

    Arrays are [n, D], or pictures: [n, height, width] or [n, channels, height, width]. A single
    array `data` is shuffled by a fixed stream and split as the tabular benchmarks are: the last
    tenth is the test set, the last tenth of the rest validates.
    """

    name: str
    path: Path

    def declare(self) -> Declaration:
        """The digest is of the file's content."""
        digest = declared_digest(content_checksum(self.path), LOADER_VERSION)
        return Declaration(self.name, digest, f"{self.path.name}, your own file, as it is")

    def load(self) -> Dataset:
        """Reads and checks the arrays.

        Raises:
            DataError: Arrays are missing, disagree, are empty, not numeric or not finite.
        """
        arrays = read_npz(self.name, self.path, (*SPLITS, "data"))
        splits = self._splits(arrays)
        event_shape = splits["train"].shape[1:]
        for key, rows in splits.items():
            if rows.shape[1:] != event_shape:
                self._fail(
                    f"rows of '{key}' have shape {rows.shape[1:]}, of 'train' {event_shape}"
                )
            if len(rows) == 0:
                self._fail(f"'{key}' has no rows")
        # A grey picture is one of one channel.
        shape = (1, *event_shape) if len(event_shape) == 2 else event_shape
        return ArrayDataset(
            self.name, {key: rows.reshape(len(rows), *shape) for key, rows in splits.items()}
        )

    def _splits(self, arrays: Mapping[str, Array]) -> dict[Split, Array]:
        present = [key for key in SPLITS if key in arrays]
        if "data" in arrays and not present:
            return shuffle_and_split(self._checked("data", arrays["data"]))
        if "data" in arrays:
            self._fail(f"has both 'data' and '{present[0]}'; keep one of the two forms")
        if len(present) < len(SPLITS):
            found = ", ".join(sorted(names_in(self.name, self.path))) or "nothing"
            self._fail(f"needs the arrays train, val and test, or data; it has {found}")
        return {key: self._checked(key, arrays[key]) for key in SPLITS}

    def _checked(self, key: str, rows: Array) -> Array:
        if rows.dtype.kind not in "biuf":
            self._fail(f"'{key}' holds {rows.dtype}, not numbers")
        if not 2 <= rows.ndim <= 4 or 0 in rows.shape[1:]:
            self._fail(
                f"'{key}' has shape {rows.shape}; expected [rows, dimensions], [rows, height, "
                "width] or [rows, channels, height, width]"
            )
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            self._fail(f"'{key}' holds NaN or infinite values")
        return rows

    def _fail(self, what: str) -> NoReturn:
        raise DataError(f"dataset '{self.name}': {self.path.name}: {what}")
