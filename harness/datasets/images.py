"""Datasets of images: small integers in memory, encoded batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.datasets.arrays import epoch_indices
from harness.datasets.base import Batching, Dataset, DataSpace, Float, Rows, Split, piece
from harness.datasets.encodings import Encoding
from harness.interface import DataInfo
from harness.streams.stream import Stream

__all__ = ["ImageDataset"]

BLOCK = 2_000
"""Rows of a split that share a stream of fixed noise; so rows are to be had without all those
before them."""


class ImageDataset(Dataset):
    """Images in three splits, encoded anew in every training batch and once for evaluation.

    The noise of a training batch is that of `Stream(seed, "data/<noise>", step)`, so it is fresh
    for each example and epoch; that of evaluation is `Stream(0, "data/<noise>/<split>", block)`,
    the same for all trials.

    Arguments:
        name: Name of the dataset.
        splits: `train`, `val` and `test`, each [n, channels, height, width]; memory maps are read
            piece by piece.
        encoding: Turns pixels into rows.
        flip: True if training mirrors each image, left to right, with probability 1/2.
    """

    def __init__(
        self,
        name: str,
        splits: Mapping[Split, npt.NDArray[Any]],
        encoding: Encoding,
        flip: bool = False,
    ) -> None:
        self.info = DataInfo(name, splits["train"].shape[1:], encoding.likelihood)
        # Binary images are scored in nats, as their published tables are.
        self.bits_per_dim = encoding.likelihood != "bernoulli"
        self.encoding = encoding
        self._splits, self._flip = splits, flip

    def sizes(self) -> Mapping[Split, int]:
        """Images of each split."""
        return {split: len(images) for split, images in self._splits.items()}

    def training_batch(self, seed: int, step: int, batching: Batching) -> Rows:
        """A batch of the shuffled epoch (`epoch_indices`), mirrored and encoded anew."""
        images = self._splits["train"]
        pixels = images[epoch_indices(self.info.name, len(images), seed, step, batching)]
        if self._flip:
            mirrored = Stream(seed, "data/flip", step).integers(2, (len(pixels),)) == 1
            pixels[mirrored] = pixels[mirrored, ..., ::-1]
        noise = self.encoding.noise
        shape = pixels.shape if noise else (0,)
        return self.encoding.rows(pixels, Stream(seed, f"data/{noise}", step).uniform(shape))

    def rows(self, split: Split, limit: int | None = None) -> Rows:
        """Images with their fixed noise; all of them take 8 bytes a pixel."""
        return self._fixed(split, 0, len(self._splits[split][:limit]))

    def chunks(
        self, split: Split, size: int | None = None, limit: int | None = None
    ) -> Iterator[Rows]:
        """The same rows piece by piece, never all of them in memory."""
        count = len(self._splits[split][:limit])
        size = size or piece(self.info.event_shape)
        for start in range(0, count, size):
            yield self._fixed(split, start, min(start + size, count))

    def to_data(self, x: Float) -> Float:
        """Maps rows back to pixels."""
        return self.encoding.to_data(x)

    @property
    def space(self) -> DataSpace:
        """That of the pixels."""
        return self.encoding.space

    def _fixed(self, split: Split, start: int, stop: int) -> Rows:
        uniforms = [np.empty((0, *self.info.event_shape))]
        if self.encoding.noise:
            slot = f"data/{self.encoding.noise}/{split}"
            for block in range(start // BLOCK, math.ceil(stop / BLOCK)):
                first, last = (max(0, min(row - block * BLOCK, BLOCK)) for row in (start, stop))
                stream = Stream(0, slot, block)
                uniforms.append(stream.uniform((last, *self.info.event_shape))[first:])
        return self.encoding.rows(self._splits[split][start:stop], np.concatenate(uniforms))
