"""The image datasets of variational autoencoders (FFJORD, arXiv:1810.01367, table 3).

Splits and preprocessing are those of the released code (vae_lib/utils/load_data.py, after
Sylvester flows, arXiv:1803.05649), but for what it leaves to chance:

`freyfaces` has another test set for each of the code's three seeds; these are three datasets here,
since a dataset never depends on the seed of a trial. `omniglot` validates on 1,345 training images
that the code draws without a fixed seed; they are drawn once here. Order within a split is that of
the file, since every epoch shuffles anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from harness.datasets import image_files, npz
from harness.datasets.arrays import shuffle_and_split
from harness.datasets.base import Float, Loader, Split
from harness.datasets.download import Remote
from harness.datasets.encodings import Binarised, Levels
from harness.datasets.partial import Partial
from harness.datasets.public import Array, PublicDataset, Source
from harness.streams import Stream

__all__ = ["LOADERS", "PINNED_FILES"]

BINARY = Levels(2, "bernoulli")
GREY_28 = (1, 28, 28)


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
    """Binary images as numpy draws them: ones at the upper end for p <= 1/2, else at the lower."""
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


def _amat_file(name: str, sha256: str, megabytes: int) -> Remote:
    file = f"binarized_mnist_{name}.amat"
    folder = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
    origin = "H. Larochelle's page of binarized MNIST"
    return Remote(file, (f"{folder}/{file}",), f"sha256:{sha256}", megabytes, origin)


_AMAT_FILES = (
    _amat_file("train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d", 78),
    _amat_file("valid", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2", 16),
    _amat_file("test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c", 16),
)


def _unchanged(train: Array, val: Array, test: Array) -> Mapping[Split, Array]:
    return {"train": train, "val": val, "test": test}


def _rows_of_784(train: Array, val: Array, test: Array) -> Mapping[Split, Array]:
    splits = _unchanged(train, val, test)
    return {split: images.reshape(-1, *GREY_28) for split, images in splits.items()}


MNIST_STATIC = PublicDataset(
    "mnist-static",
    "MNIST made binary once (Larochelle), 28x28, for variational autoencoders",
    tuple(
        Source(
            tuple(folder + remote.file for remote in _AMAT_FILES),
            image_files.amat,
            tuple(remote.checksum for remote in _AMAT_FILES),
        )
        for folder in ("", "mnist-static/")
    ),
    {"train": 50_000, "val": 10_000, "test": 10_000},
    GREY_28,
    _unchanged,
    _AMAT_FILES,
    part="mnist-static-partial",
    encoding=BINARY,
)

OMNIGLOT = PublicDataset(
    "omniglot",
    "characters of 50 alphabets (IWAE), 28x28, made binary anew in every training batch, for "
    "variational autoencoders",
    (
        Source(
            ("chardata.mat",),
            image_files.omniglot,
            ("git:016a3536ffe5e1d38e42563a18d7a78bfaf643ec",),
        ),
    ),
    {"data": 24_345, "testdata": 8_070},
    GREY_28,
    omniglot_splits,
    package="scipy",
    part="omniglot-partial",
    encoding=Binarised(),
)

OMNIGLOT_RAW = PublicDataset(
    "omniglot-raw-partial",
    "4,840 of the 32,460 original characters of Omniglot, shrunk from 105x105 to 28x28, for "
    "variational autoencoders; for checks, not for tables",
    (
        Source(
            ("omniglot-raw-partial.npz",),
            npz.parts,
            ("sha256:40a3f46677e100f82c18997bbd72bb58aa46465aea935a3985c20678e958261b",),
        ),
    ),
    {"data": 4_840},
    GREY_28,
    shrunk,
    encoding=Binarised(scale=225.0),
)

_FREY_FILE = Remote(
    "freyfaces.pkl",
    ("https://github.com/y0ast/Variational-Autoencoder/raw/master/freyfaces.pkl",),
    "sha256:3b69410c6a5fd6e03f09012905168be3712373a094a776f7e58fcd0670d2138a",
    4,
    "y0ast/Variational-Autoencoder on GitHub",
)
FREYFACES = PublicDataset(
    "freyfaces",
    "1,965 frames of a face, 28x20 in 256 greys, for variational autoencoders; split of seed 123",
    (
        Source((_FREY_FILE.file,), image_files.freyfaces, (_FREY_FILE.checksum,)),
        Source(
            ("freyfaces.npz",),
            npz.parts,
            ("sha256:a8a8aa235ffe678af7e158a18c6257cac821c34ec1fd3921fa641b2943f413ae",),
        ),
    ),
    {"data": 1_965},
    (1, 28, 20),
    partial(frey_splits, seed=123),
    (_FREY_FILE,),
    part="freyfaces-partial",
    encoding=Levels(256, "categorical"),
)

CALTECH = PublicDataset(
    "caltech-silhouettes",
    "8,671 binary outlines of objects, 28x28, in Marlin's splits, for variational autoencoders",
    (Source(("caltech101_silhouettes_28_split1.mat",), image_files.caltech),),
    {"train": 4_100, "val": 2_264, "test": 2_307},
    GREY_28,
    _unchanged,
    package="scipy",
    part="caltech-silhouettes-partial",
    encoding=BINARY,
)

CALTECH_RESPLIT = replace(
    CALTECH,
    name="caltech-silhouettes-resplit",
    summary="the images of caltech-silhouettes in splits of our own; not for its tables",
    sources=(
        Source(
            ("caltech-silhouettes-resplit.npz",),
            npz.parts,
            ("sha256:04a1e9892299ee68975957c33fe12aedb927564fe28a3f7147bc202c0548b617",),
        ),
    ),
    prepare=_rows_of_784,
    package=None,
    part=None,
)

_SETS = (
    *(MNIST_STATIC, OMNIGLOT, OMNIGLOT_RAW, FREYFACES, CALTECH, CALTECH_RESPLIT),
    *(
        replace(
            FREYFACES,
            name=f"freyfaces-{seed}",
            summary=f"freyfaces in the split of seed {seed}",
            prepare=partial(frey_splits, seed=seed),
        )
        for seed in (321, 231)
    ),
)

_PARTS = tuple(Partial(whole) for whole in (MNIST_STATIC, OMNIGLOT, FREYFACES, CALTECH))

LOADERS: Mapping[str, Loader] = {
    **{dataset.name: dataset for dataset in _SETS},
    **{part.name: part for part in _PARTS},
}

PINNED_FILES = frozenset({OMNIGLOT_RAW.name, CALTECH_RESPLIT.name, FREYFACES.name})
"""Stems of npz files in the data folder that are ours, not datasets of the user."""
