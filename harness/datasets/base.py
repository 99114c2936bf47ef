"""What a dataset is: rows in model space, how they arose from data, and its digest."""

from __future__ import annotations

import abc
import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.interface import DataInfo, Likelihood
from harness.trial import Training

__all__ = [
    "SPLITS",
    "Batching",
    "DataSpace",
    "Dataset",
    "Declaration",
    "Float",
    "Loader",
    "Parts",
    "Reader",
    "Rows",
    "Split",
    "piece",
]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = typing.get_args(Split)


def piece(event_shape: tuple[int, ...]) -> int:
    """Rows that are worked on at a time where nothing asks for a number: 32 MB of float64."""
    return min(50_000, max(1, (1 << 22) // math.prod(event_shape)))


@dataclass(frozen=True)
class Declaration:
    """What is known of a dataset before it is read; enough to plan.

    Arguments:
        name: Kebab-case name.
        digest: Checksum of the raw bytes and version of the loader; part of the trial's identity.
        summary: One line for `harness list`.
        available: True if it can be loaded now without a download.
        reason: Why it is not available, or what would be downloaded.
        likelihood: `DataInfo.likelihood`: the kind of model that can be fitted to it.
        event_shape: Shape of an example; None if only reading would tell.
        test_rows: Rows of the test split; None if only reading would tell.
    """

    name: str
    digest: str
    summary: str
    available: bool = True
    reason: str | None = None
    likelihood: Likelihood = "density"
    event_shape: tuple[int, ...] | None = None
    test_rows: int | None = None


@dataclass(frozen=True)
class Batching:
    """How training rows become batches; the fields of that name of `harness.trial.Training`.

    Arguments:
        size: Rows a batch.
        last: What becomes of the short batch at the end of an epoch.
        stratified: See `Training.stratified`.
    """

    size: int
    last: Literal["drop", "keep"] = "drop"
    stratified: bool = False

    @staticmethod
    def of(training: Training) -> Batching:
        """That of a trial."""
        return Batching(training.batch, training.last_batch, training.stratified)

    def steps(self, rows: int) -> int:
        """Batches of an epoch of so many rows."""
        return rows // self.size if self.last == "drop" else -(-rows // self.size)


@dataclass(frozen=True)
class Rows:
    """Examples in model space.

    Arguments:
        x: [n, *event_shape] float64.
        log_volume: [n], log |det dx_model/dx_data| of the preprocessing that belongs to the
            density (0 for standardised tabular data, whose published densities are those of the
            standardised variables).
            log p(data) = log p_model(x) + log_volume.
    """

    x: Float
    log_volume: Float


@dataclass(frozen=True)
class DataSpace:
    """The space of data, and the map between it and that of a model; the identity by default.

    Arguments:
        text: What the numbers of a row are, for people.
        low: Every value is larger, or equal where `closed`.
        high: Every value is smaller, or equal where `closed`.
        closed: The ends belong to it.
        levels: Values are k / (levels - 1) alone; None: all between the ends.
    """

    text: str
    low: float = -math.inf
    high: float = math.inf
    closed: bool = False
    levels: int | None = None

    def rows(self, data: Array) -> Rows:
        """The rows of a model, and log |det dx_model/dx_data|.

        Arguments:
            data: [n, *event_shape]. Where data are dequantised, whole numbers (of an integer
                type) get their noise here, the same in every call.
        """
        return Rows(data.astype(np.float64), np.zeros(len(data)))

    def data(self, x: Float) -> Float:
        """The inverse; nothing is clipped."""
        return x


class Dataset(abc.ABC):
    """A loaded dataset.

    Example:
        >>> from harness.datasets.base import Batching
        >>> from harness.datasets.registry import load
        >>> load("moons").training_batch(0, 0, Batching(3)).x.shape
        (3, 2)
    """

    info: DataInfo
    bits_per_dim: bool = False
    """True if results are also given in bits/dim: -(mean log p) / (D ln 2), log p on 0..255-like
    integer levels: either `log_volume` includes the division by the number of levels, or log p is
    of the levels themselves (`categorical`)."""

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of an example as a picture: [height, width] in grey, or [channels, height, width].

        None if examples are not pictures; those of pictures have an `event_shape` of three sides.
        """
        shape = self.info.event_shape
        if len(shape) != 3:
            return None
        return shape[1:] if shape[0] == 1 else shape

    @abc.abstractmethod
    def sizes(self) -> Mapping[Split, int]:
        """Number of rows of each split; an endless training stream says 0."""

    @abc.abstractmethod
    def training_batch(self, seed: int, step: int, batching: Batching) -> Rows:
        """Examples of optimiser step `step`: a pure function of the arguments.

        Raises:
            DataError: A batch is larger than the training split.
        """

    @abc.abstractmethod
    def rows(self, split: Split, limit: int | None = None) -> Rows:
        """The first `limit` rows of a split: the same ones whatever the seed of a trial.

        An endless training stream gives a large fixed sample of its distribution here.
        """

    def chunks(
        self, split: Split, size: int | None = None, limit: int | None = None
    ) -> Iterator[Rows]:
        """The rows of `rows(split, limit)`, `size` at a time; None leaves the size to memory."""
        rows = self.rows(split, limit)
        size = size or piece(self.info.event_shape)
        for start in range(0, len(rows.x), size):
            end = start + size
            yield Rows(rows.x[start:end], rows.log_volume[start:end])

    def to_data(self, x: Float) -> Float:
        """Maps model space back to data space, for pictures."""
        return x

    @property
    def space(self) -> DataSpace:
        """The space in which a trained model speaks of data."""
        return DataSpace("rows as the dataset has them; those of the tables are standardised")


class Loader(abc.ABC):
    """Declares and loads one dataset.

    A package adds a dataset by an entry point of the group `harness.datasets`: its name is the
    dataset's, its target a class derived from this one that is constructed without arguments.
    """

    @abc.abstractmethod
    def declare(self) -> Declaration:
        """Says what the dataset is without reading its arrays."""

    @abc.abstractmethod
    def load(self) -> Dataset:
        """Reads the dataset.

        Raises:
            DataError: A file is absent, incomplete or corrupt; the message says how to mend it.
        """

    def without_rows(self) -> Dataset | None:
        """The dataset with empty splits, if what it is follows from no file: enough to use a model
        that was trained on it, on a machine that has not the data. None: it must be loaded.
        """
        return None


Parts: TypeAlias = Mapping[str, Array]


Reader: TypeAlias = Callable[[str, Sequence[Path], Mapping[str, int]], Parts]
