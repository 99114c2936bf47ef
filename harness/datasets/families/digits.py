"""The 8 x 8 handwritten digits inside scikit-learn: real images that need no download."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from harness.datasets.base import Dataset, Declaration, Loader, Split
from harness.datasets.encodings import Logit
from harness.datasets.folders import declared_digest
from harness.datasets.images import ImageDataset
from harness.errors import DataError
from harness.streams.stream import Stream

__all__ = ["ENCODING", "LOADERS"]

LOADER_VERSION = 1
CHECKSUM = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
"""SHA-256 of the 1797 x 64 pixels as bytes."""
ENCODING = Logit(levels=17, alpha=0.05)
"""Pixels are 0, 1, ..., 16. Two thirds of them sit at one end of the range; with the margin 1e-6
of the released image script their logits spread to -14, with 0.05 (RNODE's value for CIFAR10) all
stay within 3.
"""
SIZES: Mapping[Split, int] = {"train": 1297, "val": 200, "test": 300}


class _DigitsLoader(Loader):
    def declare(self) -> Declaration:
        """The images travel with scikit-learn, a dependency of this package."""
        digest = declared_digest(CHECKSUM, LOADER_VERSION)
        summary = "1,797 real 8x8 images of handwritten digits"
        return Declaration("digits", digest, summary, event_shape=(1, 8, 8))

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
        digest = hashlib.sha256(levels.tobytes()).hexdigest()
        if digest != CHECKSUM:
            raise DataError(
                f"dataset 'digits': the images inside scikit-learn have SHA-256 {digest[:16]}..., "
                f"expected {CHECKSUM[:16]}...; install another version of scikit-learn"
            )
        order = Stream(0, "data/split").permutation(len(levels))
        images = levels.reshape(-1, 1, 8, 8)[order]
        train, val, test = np.split(images, np.cumsum([SIZES["train"], SIZES["val"]]))
        return ImageDataset("digits", {"train": train, "val": val, "test": test}, ENCODING)


LOADERS: Mapping[str, Loader] = {"digits": _DigitsLoader()}
