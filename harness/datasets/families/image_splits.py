"""Splits of the image datasets, from the parts of their files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from harness.datasets.arrays import shuffle_and_split
from harness.datasets.base import Array, Float, Split
from harness.streams.stream import Stream

__all__ = ["as_they_are", "frey_splits", "omniglot_splits", "shrunk", "split_off"]


def as_they_are(
    train: Array, val: Array, test: Array, shape: tuple[int, ...] | None = None
) -> Mapping[Split, Array]:
    """The splits of the files; `shape` is that of an image where rows are flat."""
    splits: Mapping[Split, Array] = {"train": train, "val": val, "test": test}
    return {
        split: images.reshape(-1, *(shape or images.shape[1:])) for split, images in splits.items()
    }


def split_off(train: Array, test: Array, share: int, held_out: bool) -> Mapping[Split, Array]:
    """The last 1/`share` of the training images validates, kept out of training or not."""
    count = len(train) - len(train) // share
    return {"train": train[:count] if held_out else train, "val": train[count:], "test": test}


def frey_splits(data: Array, seed: int) -> Mapping[Split, Array]:
    """Shuffles as `numpy.random.seed(seed); numpy.random.shuffle` does; 1,565 + 200 + 200 faces.

    Arguments:
        data: [1965, 560]; of fewer, as large a share validates and tests.
        seed: 123, 321 or 231.

    Returns:
        Splits [., 1, 28, 20].
    """
    images = data[np.random.RandomState(seed).permutation(len(data))].reshape(-1, 1, 28, 20)
    count = round(len(data) * 200 / 1965)
    train, val, test = np.split(images, [len(data) - 2 * count, len(data) - count])
    return {"train": train, "val": val, "test": test}


def omniglot_splits(data: Array, testdata: Array) -> Mapping[Split, Array]:
    """Keeps the greys of the training images and makes the others binary, once.

    The code's `numpy.random.seed(777); numpy.random.binomial(1, x)` took one uniform a pixel,
    validation first, in the versions of numpy of its time; newer ones take none for a pixel of 0.
    This is the older way, so the test set is theirs, whichever images validate.

    Arguments:
        data: [24345, 1, 28, 28]; of fewer, as large a share validates.
        testdata: [8070, 1, 28, 28].
    """
    images = data[Stream(0, "data/split").permutation(len(data))]
    count = len(data) - round(len(data) * 1345 / 24345)
    generator = np.random.RandomState(777)
    return {
        "train": images[:count],
        "val": _drawn(images[count:], generator.random_sample(images[count:].shape)),
        "test": _drawn(testdata, generator.random_sample(testdata.shape)),
    }


def _drawn(greys: Array, uniforms: Float) -> npt.NDArray[np.uint8]:
    """Binary images as numpy draws them: ones at the upper end up to p = 1/2, then the lower."""
    p = greys.astype(np.float64)
    ones = np.where(p <= 0.5, uniforms > 1.0 - p, uniforms <= p)
    return ones.astype(np.uint8)


def shrunk(data: Array) -> Mapping[Split, Array]:
    """Images of 105 x 105 binary pixels by the area rule, in sixteenths of a pixel's area.

    A pixel of the result covers 3.75 x 3.75 of the original; it is the sum of these, each weighted
    by the quarters of a side that it covers in both directions, 0 .. 225. The IWAE authors do not
    say how they made their 28 x 28 images, so these are others.

    Arguments:
        data: [n, 105, 105].
    """
    edges = np.arange(0, 421, 15)
    pixels = 4 * np.arange(105)
    overlap = np.minimum(edges[1:, None], pixels + 4) - np.maximum(edges[:-1, None], pixels)
    weights = np.maximum(overlap, 0).astype(np.float32)
    # Whole numbers below 2^24 are exact in float32, in whatever order they are added.
    sums = weights @ data.astype(np.float32) @ weights.T
    return shuffle_and_split(sums.astype(np.uint8)[:, None])
