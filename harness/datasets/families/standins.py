"""Stand-ins for sets of the paper whose files are not at hand: drawn from formulas, for checks.

They have the shape and the kind of the real sets and nothing else of them; no table prints a
result on one beside a published value. All draws are of fixed streams and use exactly rounded
operations only, so the rows are the same bits everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.datasets.arrays import ArrayDataset
from harness.datasets.base import Dataset, Declaration, Float, Loader, Split
from harness.datasets.encodings import Levels
from harness.datasets.folders import declared_digest
from harness.datasets.images import ImageDataset
from harness.interface import Likelihood
from harness.streams.stream import Stream

__all__ = ["LOADERS", "StandIn", "chain", "chain_means", "ellipses"]

LOADER_VERSION = 1
SIDE = 28

FIRST, WIDTH = 1.5, 0.5
"""Of `chain`: the two modes of the first feature lie at -FIRST and FIRST; WIDTH is the standard
deviation of every feature given the one before."""


def chain(stream: Stream, count: int, dimension: int) -> Float:
    """Rows [count, dimension] of a chain of features that bend into each other.

    x_1 is -3/2 or 3/2 with equal probability, x_d for d > 1 is m(x_(d-1)) (`chain_means`), each
    plus a normal with standard deviation 1/2. Two modes and no linear dependence throughout, with
    a density in closed form.
    """
    noise = WIDTH * stream.normal((count, dimension))
    side = 2.0 * Stream(stream.seed, f"{stream.slot}/side").integers(2, (count,)) - 1.0
    x = np.empty((count, dimension))
    x[:, 0] = FIRST * side + noise[:, 0]
    for column in range(1, dimension):
        x[:, column] = chain_means(x[:, column - 1]) + noise[:, column]
    return x


def chain_means(x: Float) -> Float:
    """m(x) = 0.6 x + 1.2 x^2 / (1 + x^2) - 0.6, the mean of a feature after one of value x."""
    square = x * x
    means: Float = 0.6 * x + 1.2 * square / (1.0 + square) - 0.6
    return means


def ellipses(stream: Stream, count: int) -> npt.NDArray[np.uint8]:
    """Binary images [count, 1, 28, 28] of one outline of an ellipse each.

    A pixel is 1 where |(u / a)^2 + (v / b)^2 - 1| < 0.35; its centre is uniform within 3 pixels of
    the middle, a and b are uniform from 4 to 10, and u, v are the coordinates turned by an angle
    whose half-tangent is uniform from -1 to 1.
    """
    draws = stream.uniform((5, count, 1, 1))
    rows, columns = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    y, x = (grid - 0.5 * (SIDE - 1) - 6.0 * (draw - 0.5)
            for grid, draw in zip((rows, columns), draws[:2], strict=True))  # fmt: skip
    a, b = 4.0 + 6.0 * draws[2], 4.0 + 6.0 * draws[3]
    half = 2.0 * draws[4] - 1.0
    cos, sin = (1.0 - half * half) / (1.0 + half * half), 2.0 * half / (1.0 + half * half)
    u, v = (cos * x + sin * y) / a, (cos * y - sin * x) / b
    inked: npt.NDArray[np.uint8] = (np.abs(u * u + v * v - 1.0) < 0.35).astype(np.uint8)
    return inked[:, None]


@dataclass(frozen=True)
class StandIn(Loader):
    """A stand-in.

    Arguments:
        name: Its name.
        stands_for: What it stands in for.
        shape: Shape of an example.
        sizes: Rows of each split.
        draw: Draws the rows of a split from a stream.
        likelihood: As that of the real set.
    """

    name: str
    stands_for: str
    shape: tuple[int, ...]
    sizes: Mapping[Split, int]
    draw: Callable[[Stream, int], npt.NDArray[Any]]
    likelihood: Likelihood = "density"

    def declare(self) -> Declaration:
        """There is no raw file: the digest is of the name and the version of the formula."""
        digest = declared_digest(self.name, LOADER_VERSION)
        return Declaration(
            self.name,
            digest,
            f"drawn from a formula, no data of {self.stands_for}, for which it stands in checks; "
            "never for tables",
            likelihood=self.likelihood,
            event_shape=self.shape,
            test_rows=self.sizes["test"],
        )

    def load(self) -> Dataset:
        """Draws all rows."""
        splits: dict[Split, npt.NDArray[Any]] = {
            split: self.draw(Stream(0, f"data/{self.name}/{split}"), count)
            for split, count in self.sizes.items()
        }
        if self.likelihood == "density":
            return ArrayDataset(self.name, splits)
        return ImageDataset(self.name, splits, Levels(2, self.likelihood))


def _table(name: str, stands_for: str, dimension: int) -> StandIn:
    sizes: Mapping[Split, int] = {"train": 20_000, "val": 2_000, "test": 4_000}
    return StandIn(
        name, stands_for, (dimension,), sizes, lambda s, count: chain(s, count, dimension)
    )


LOADERS: Mapping[str, Loader] = {
    stand_in.name: stand_in
    for stand_in in (
        _table("standin-6d", "POWER", 6),
        _table("standin-8d", "GAS", 8),
        _table("standin-21d", "HEPMASS", 21),
        _table("standin-43d", "MINIBOONE", 43),
        StandIn(
            "standin-binary28",
            "the statically binarised MNIST",
            (1, SIDE, SIDE),
            {"train": 2_000, "val": 400, "test": 400},
            ellipses,
            "bernoulli",
        ),
    )
}
