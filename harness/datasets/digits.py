"""The 8 x 8 handwritten digits inside scikit-learn: real images that need no download."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from harness.datasets.arrays import epoch_indices
from harness.datasets.base import Dataset, Declaration, Float, Loader, Rows, Split
from harness.datasets.files import declared_digest
from harness.elementary import log
from harness.errors import DataError
from harness.interface import DataInfo
from harness.streams import Stream

__all__ = ["ALPHA", "LEVELS", "LOADERS", "logit_rows"]

LOADER_VERSION = 1
CHECKSUM = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
"""SHA-256 of the 1797 x 64 pixels as bytes."""
LEVELS = 17
"""Pixels are 0, 1, ..., 16."""
ALPHA = 0.05
"""Margin of the logit transform. Two thirds of the pixels sit at one end of the range; with the
1e-6 of the released image script their logits spread to -14, with 0.05 (RNODE's value for CIFAR10)
all stay within 3.
"""
SIZES: Mapping[Split, int] = {"train": 1297, "val": 200, "test": 300}


def logit_rows(levels: Float, uniforms: Float) -> Rows:
    """Dequantises pixels and maps them to the real line.

    With v = level + u in data space, x = v / 17, s = alpha + (1 - 2 alpha) x:

        y = log s - log(1 - s),   log |dy/dv| = log(1 - 2 alpha) - log s - log(1 - s) - log 17,

    so densities are those of v, one unit a level, and a bound on the mean log-probability of the
    levels themselves (FFJORD, arXiv:1810.01367, follows Theis et al., arXiv:1511.01844).

    Arguments:
        levels: [n, D] pixels 0 .. 16.
        uniforms: [n, D] on (0, 1).

    Returns:
        y [n, D] and the sum of log |dy/dv| over the pixels, [n].
    """
    s = ALPHA + (1.0 - 2.0 * ALPHA) * ((levels + uniforms) / LEVELS)
    log_s, log_rest = log(s), log(1.0 - s)
    constant = log(np.array([(1.0 - 2.0 * ALPHA) / LEVELS]))
    return Rows(log_s - log_rest, np.sum(constant - log_s - log_rest, axis=1))


class _Digits(Dataset):
    bits_per_dim = True
    image_shape = (8, 8)

    def __init__(self, levels: Float) -> None:
        self.info = DataInfo("digits", (64,))
        order = Stream(0, "data/split").permutation(len(levels))
        ends = np.cumsum([SIZES["train"], SIZES["val"]])
        train, val, test = np.split(levels[order], ends)
        self._levels: Mapping[Split, Float] = {"train": train, "val": val, "test": test}

    def sizes(self) -> Mapping[Split, int]:
        """Images of each split."""
        return SIZES

    def training_batch(self, seed: int, step: int, size: int) -> Rows:
        """A batch of the shuffled epoch, dequantised anew at every step."""
        levels = self._levels["train"]
        indices = epoch_indices("digits", len(levels), seed, step, size)
        uniforms = Stream(seed, "data/dequantise", step).uniform((size, 64))
        return logit_rows(levels[indices], uniforms)

    def rows(self, split: Split, limit: int | None = None) -> Rows:
        """Images with one fixed dequantisation."""
        levels = self._levels[split][:limit]
        uniforms = Stream(0, f"data/dequantise/{split}").uniform(levels.shape)
        return logit_rows(levels, uniforms)

    def to_data(self, x: Float) -> Float:
        """Inverts the logit: continuous pixel values in (0, 17), whose integer part is the level.

        What lies beyond the range of the data is clipped to it.
        """
        s = 0.5 * (1.0 + np.tanh(0.5 * x))
        v: Float = LEVELS * (s - ALPHA) / (1.0 - 2.0 * ALPHA)
        return np.clip(v, 0.0, LEVELS)


class _DigitsLoader(Loader):
    def declare(self) -> Declaration:
        """The images travel with scikit-learn, a dependency of this package."""
        digest = declared_digest(CHECKSUM, LOADER_VERSION)
        return Declaration("digits", digest, "1,797 real 8x8 images of handwritten digits")

    def load(self) -> Dataset:
        """Reads the images from scikit-learn and verifies them."""
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise DataError(
                "dataset 'digits' lies inside scikit-learn, which cannot be imported; "
                "run: pip install scikit-learn"
            ) from error
        levels = load_digits().data.astype(np.uint8)
        found = hashlib.sha256(levels.tobytes()).hexdigest()
        if found != CHECKSUM:
            raise DataError(
                f"dataset 'digits': the images inside scikit-learn have SHA-256 {found[:16]}..., "
                f"expected {CHECKSUM[:16]}...; install another version of scikit-learn"
            )
        return _Digits(levels.astype(np.float64))


LOADERS: Mapping[str, Loader] = {"digits": _DigitsLoader()}
