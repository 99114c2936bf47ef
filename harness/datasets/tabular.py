"""The tabular benchmarks of the density-estimation literature, preprocessed as MAF does.

Steps and their quirks follow the data code of Papamakarios et al., Masked Autoregressive Flow
(arXiv:1705.07057), which FFJORD uses. Densities are those of the standardised variables, as all
published tables have them, so `log_volume` is 0. A name that ends in `-partial` is a part of the
data, for checks of the machinery; no table may print its result under the full name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from harness.datasets.arrays import ArrayDataset
from harness.datasets.base import Dataset, Declaration, Float, Loader, Split
from harness.datasets.files import absence, checked_file, declared_digest, find
from harness.datasets.npz import read_arrays
from harness.errors import DataError

__all__ = ["LOADERS", "Tabular", "miniboone", "power"]

LOADER_VERSION = 1


def power(data: Float) -> dict[Split, Float]:
    """Splits of POWER from its rows as MAF stores them.

    Rows are shuffled by numpy's legacy generator with seed 42, the columns global intensity (3)
    and reactive power (1) dropped, and uniform noise of one measuring step added. It is drawn in
    the order voltage, active power, sub-meterings; the time gets none.

    Arguments:
        data: [n, 8]: global active power, global reactive power, voltage, global intensity, three
            sub-meterings, minute of the day.

    Returns:
        Splits [., 6]: active power, voltage, three sub-meterings, time; the last tenth is the test
        set, the last tenth of the rest validates.
    """
    # numpy freezes the streams of RandomState: this is the published shuffle, bit by bit.
    legacy = np.random.RandomState(42)
    data = data.copy()
    legacy.shuffle(data)
    count = len(data)
    data = np.delete(np.delete(data, 3, axis=1), 1, axis=1)
    voltage = 0.01 * legacy.rand(count, 1)
    active_power = 0.001 * legacy.rand(count, 1)
    sub_meterings = legacy.rand(count, 3)
    data += np.hstack([active_power, voltage, sub_meterings, np.zeros((count, 1))])
    return _standardised(data)


def miniboone(data: Float) -> dict[Split, Float]:
    """Splits of MINIBOONE from its rows as MAF stores them, already filtered; no shuffle.

    Arguments:
        data: [n, 43].

    Returns:
        Splits [., 43]; the last tenth is the test set, the last tenth of the rest validates.
    """
    return _standardised(data)


def _standardised(data: Float) -> dict[Split, Float]:
    """Splits without shuffling and standardises by mean and deviation of train + validation."""
    test = int(0.1 * len(data))
    val = int(0.1 * (len(data) - test))
    train = len(data) - test - val
    seen = data[: train + val]
    data = (data - seen.mean(axis=0)) / seen.std(axis=0)
    return {"train": data[:train], "val": data[train : train + val], "test": data[train + val :]}


@dataclass(frozen=True)
class Tabular(Loader):
    """A table in the data folder, as the array `data` of `<name>.npz`.

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


LOADERS: Mapping[str, Loader] = {
    table.name: table
    for table in (
        Tabular(
            "power-partial",
            "893798910db2ec6bca62d4ee0624afda65d5b0838fba7c281887ef3b092441c5",
            (48_419, 8),
            power,
            "the first 48,419 of the 2,049,280 rows of POWER; 6-D; for checks, not for tables",
        ),
        Tabular(
            "miniboone-partial",
            "82a9d698daf563e3df6285a3b5787ffd647fa29f380b8fceea8684ca01d1b979",
            (1_523, 43),
            miniboone,
            "the first 1,523 of the 36,488 rows of MINIBOONE; 43-D; for checks, not for tables",
        ),
    )
}
