"""Datasets that are arrays with three splits, and the order in which training reads them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Batching, Dataset, Float, Rows, Split, piece
from harness.errors import DataError
from harness.interface import DataInfo
from harness.streams.stream import Stream

__all__ = ["ArrayDataset", "epoch_indices", "shuffle_and_split"]


def epoch_indices(
    name: str, count: int, seed: int, step: int, batching: Batching
) -> npt.NDArray[np.int64]:
    """Rows of the batch of optimiser step `step`.

    Epoch e reads the training rows in the order `Stream(seed, "epoch", e).permutation(count)`. If
    the short batch that is left at its end is dropped, all batches have one shape; the next epoch
    shuffles anew, so no row is left out for good.

    Returns:
        [size] indices into the training split, fewer at the end of an epoch if that is kept.

    Raises:
        DataError: The training split has fewer than `size` rows.
    """
    size, batches = batching.size, batching.steps(count)
    if count < size:
        raise DataError(
            f"dataset '{name}' has {count} training rows, fewer than one batch of {size}; "
            f"set training.batch to at most {count}"
        )
    epoch, batch = divmod(step, batches)
    return _order(count, seed, epoch)[batch * size : (batch + 1) * size]


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    order = Stream(seed, "epoch", epoch).permutation(count)
    order.setflags(write=False)
    return order


class ArrayDataset(Dataset):
    """Three arrays of rows, given to the model as they are; `log_volume` is 0.

    Arguments:
        name: Name of the dataset.
        splits: `train`, `val` and `test`, each [n, *event_shape], of any numeric type; memory maps
            are read piece by piece.
    """

    def __init__(self, name: str, splits: Mapping[Split, npt.NDArray[np.generic]]) -> None:
        self.info = DataInfo(name, splits["train"].shape[1:])
        self._splits = splits

    def sizes(self) -> Mapping[Split, int]:
        """Number of rows of each split."""
        return {split: len(rows) for split, rows in self._splits.items()}

    def training_batch(self, seed: int, step: int, batching: Batching) -> Rows:
        """A batch of the shuffled epoch (`epoch_indices`)."""
        rows = self._splits["train"]
        return _as_rows(rows[epoch_indices(self.info.name, len(rows), seed, step, batching)])

    def rows(self, split: Split, limit: int | None = None) -> Rows:
        """The first rows of a split, in the order of the file."""
        return _as_rows(self._splits[split][:limit])

    def chunks(
        self, split: Split, size: int | None = None, limit: int | None = None
    ) -> Iterator[Rows]:
        """The same rows piece by piece, never all of them in memory."""
        rows = self._splits[split][:limit]
        size = size or piece(self.info.event_shape)
        for start in range(0, len(rows), size):
            yield _as_rows(rows[start : start + size])


def shuffle_and_split(
    data: npt.NDArray[Any], test_fraction: float | None = None
) -> dict[Split, npt.NDArray[Any]]:
    """Splits rows in a fixed random order: the last tenth, or another share, tests, the last tenth
    of the rest validates.
    """
    order = Stream(0, "data/split").permutation(len(data))
    test = len(data) // 10 if test_fraction is None else round(len(data) * test_fraction)
    val = (len(data) - test) // 10
    train = len(data) - test - val
    return {
        "train": data[order[:train]],
        "val": data[order[train : train + val]],
        "test": data[order[train + val :]],
    }


def _as_rows(rows: npt.NDArray[np.generic]) -> Rows:
    x: Float = rows.astype(np.float64)
    return Rows(x, np.zeros(len(x)))
