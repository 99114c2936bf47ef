"""A user's own `<name>.npz`, `.csv` or `.parquet` in the data folder, as it is or prepared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from harness.datasets.arrays import ArrayDataset, shuffle_and_split
from harness.datasets.base import (
    SPLITS,
    Batching,
    Dataset,
    Declaration,
    Float,
    Loader,
    Parts,
    Rows,
    Split,
)
from harness.datasets.folders import content_checksum, declared_digest
from harness.datasets.formats.columns import read_csv, read_parquet
from harness.datasets.formats.npz import names_in, read_npz
from harness.errors import DataError
from harness.specs.own_data import OwnData
from harness.streams.stream import Stream

__all__ = ["SUFFIXES", "OwnDataset", "OwnFile", "parts"]

LOADER_VERSION = 1
SUFFIXES = (".npz", ".csv", ".parquet")

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
class OwnFile(Loader):
    """Rows given to the model in float64; the density is of these numbers.

    Arrays are [n, D], or [n] for D = 1, or pictures: [n, height, width] or [n, channels, height,
    width]. A single array `data`, or a table, is shuffled by a fixed stream and split as the
    tabular benchmarks are: the last tenth is the test set, the last tenth of the rest validates.
    """

    data: OwnData
    path: Path

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.data.dataset

    def declare(self) -> Declaration:
        """The digest is of the file's content."""
        digest = declared_digest(content_checksum(self.path), LOADER_VERSION)
        how = "as it is" if self.name == self.data.name else "prepared as its name says"
        return Declaration(self.name, digest, f"{self.path.name}, your own file, {how}")

    def load(self) -> Dataset:
        """Reads, checks and prepares the rows.

        Raises:
            DataError: Arrays are missing, disagree, are empty, not numeric, not finite or all the
                same, or the preparation does not go with them.
        """
        names, splits = self._read()
        event_shape = splits["train"].shape[1:]
        for key, rows in splits.items():
            if rows.shape[1:] != event_shape:
                self._fail(
                    f"rows of '{key}' have shape {rows.shape[1:]}, of 'train' {event_shape}"
                )
            if len(rows) == 0:
                self._fail(f"'{key}' has no rows")
        if (splits["train"] == splits["train"][:1]).all():
            self._fail("all rows are the same: they have no density")
        whole = _whole_columns(splits["train"])
        if self.data.dequantize:
            splits = {key: _dequantized(key, rows) for key, rows in splits.items()}
        shift, scale = np.zeros(event_shape), np.ones(event_shape)
        if self.data.standardize:
            shift, scale = self._standard(names, splits["train"])
        # A grey picture is one of one channel.
        shape = (1, *event_shape) if len(event_shape) == 2 else event_shape
        return OwnDataset(
            self.name,
            {key: rows.reshape(len(rows), *shape) for key, rows in splits.items()},
            shift.reshape(shape),
            scale.reshape(shape),
            names,
            () if self.data.dequantize else whole,
        )

    def _read(self) -> tuple[tuple[str, ...], dict[Split, Array]]:
        """Names of the columns of a table, none otherwise; and the splits."""
        fraction = self.data.test_fraction
        if self.path.suffix != ".npz":
            reader = read_csv if self.path.suffix == ".csv" else read_parquet
            names, rows = reader(self.name, self.path)
            return names, shuffle_and_split(self._checked("the table", rows), fraction)
        arrays = read_npz(self.name, self.path, (*SPLITS, "data"))
        present = [key for key in SPLITS if key in arrays]
        if "data" in arrays and not present:
            return (), shuffle_and_split(self._checked("data", arrays["data"]), fraction)
        if "data" in arrays:
            self._fail(f"has both 'data' and '{present[0]}'; keep one of the two forms")
        if len(present) < len(SPLITS):
            array_names = ", ".join(sorted(names_in(self.name, self.path))) or "nothing"
            self._fail(f"needs the arrays train, val and test, or data; it has {array_names}")
        if fraction is not None:
            self._fail("it has splits of its own; remove 'test_fraction'")
        return (), {key: self._checked(key, arrays[key]) for key in SPLITS}

    def _checked(self, key: str, rows: Array) -> Array:
        if rows.dtype.kind not in "biuf":
            self._fail(f"'{key}' holds {rows.dtype}, not numbers")
        if not 1 <= rows.ndim <= 4 or 0 in rows.shape[1:]:
            self._fail(
                f"'{key}' has shape {rows.shape}; expected [rows], [rows, dimensions], [rows, "
                "height, width] or [rows, channels, height, width]"
            )
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            self._fail(f"'{key}' holds NaN or infinite values")
        return rows[:, None] if rows.ndim == 1 else rows

    def _standard(self, names: Sequence[str], train: Array) -> tuple[Float, Float]:
        rows = train.astype(np.float64)
        scale: Float = rows.std(axis=0)
        constant = np.flatnonzero(scale == 0)
        if constant.size:
            which = ", ".join(names[k] if names else str(k) for k in constant[:10])
            self._fail(f"cannot be standardized: constant columns ({which}); remove them")
        return rows.mean(axis=0), scale

    def _fail(self, what: str) -> NoReturn:
        raise DataError(f"dataset '{self.name}': {self.path.name}: {what}")


class OwnDataset(ArrayDataset):
    """Rows of a file, shifted and scaled; likelihoods are those of its numbers by `log_volume`.

    Arguments:
        name: Name of the dataset.
        splits: `train`, `val` and `test`, each [n, *event_shape].
        shift: What is subtracted, [*event_shape].
        scale: What is divided by, [*event_shape].
        columns: Names of the columns of a table; none of an npz file.
        whole: Columns, from 0, that hold whole numbers only, without noise.
    """

    def __init__(
        self,
        name: str,
        splits: Mapping[Split, Array],
        shift: Float,
        scale: Float,
        columns: Sequence[str] = (),
        whole: Sequence[int] = (),
    ) -> None:
        super().__init__(name, splits)
        self._shift, self._scale = shift, scale
        self._log_volume = -float(np.sum(np.log(scale)))
        self._columns = columns
        self.whole = tuple(whole)

    def column(self, number: int) -> str:
        """What messages call a column: its name, or its number from 0."""
        return repr(self._columns[number]) if self._columns else str(number)

    def training_batch(self, seed: int, step: int, batching: Batching) -> Rows:
        """A batch of the shuffled epoch."""
        return self._prepared(super().training_batch(seed, step, batching))

    def rows(self, split: Split, limit: int | None = None) -> Rows:
        """The first rows of a split."""
        return self._prepared(super().rows(split, limit))

    def chunks(
        self, split: Split, size: int | None = None, limit: int | None = None
    ) -> Iterator[Rows]:
        """The same rows piece by piece."""
        return map(self._prepared, super().chunks(split, size, limit))

    def to_data(self, x: Float) -> Float:
        """The numbers of the file."""
        return x * self._scale + self._shift

    def _prepared(self, rows: Rows) -> Rows:
        return Rows((rows.x - self._shift) / self._scale, rows.log_volume + self._log_volume)


def _whole_columns(rows: Array) -> tuple[int, ...]:
    """Columns that hold whole numbers only, more than two of each on average."""
    flat = rows.reshape(len(rows), -1)
    return tuple(
        column
        for column in range(flat.shape[1])
        if (flat[:, column] == np.floor(flat[:, column])).all()
        and 2 * len(np.unique(flat[:, column])) < len(flat)
    )


def _dequantized(split: Split, rows: Array) -> Array:
    noise = Stream(0, f"own/dequantize/{split}").uniform(rows.shape)
    return rows.astype(np.float64) + noise
