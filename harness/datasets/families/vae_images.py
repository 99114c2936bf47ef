"""The image datasets of variational autoencoders (FFJORD, arXiv:1810.01367, table 3).

Splits and preprocessing are those of the released code (vae_lib/utils/load_data.py, after
Sylvester flows, arXiv:1803.05649), but for what it leaves to chance:

`freyfaces` has another test set for each of the code's three seeds; these are three datasets here,
since a dataset never depends on the seed of a trial. `omniglot` validates on 1,345 training images
that the code draws without a fixed seed; they are drawn once here. The order of evaluation is that
of the splits, and every epoch of training shuffles.

The paper's runs on Frey Faces have one split each; a mean over seeds on one of them is another
figure. The resplit silhouettes and the raw Omniglot are other datasets, under names of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from harness.datasets.base import Loader
from harness.datasets.encodings import Binarised, Levels
from harness.datasets.families import own as npz
from harness.datasets.families.image_splits import (
    as_they_are,
    frey_splits,
    omniglot_splits,
    shrunk,
)
from harness.datasets.formats import images as image_files
from harness.datasets.sources.download import Remote
from harness.datasets.sources.partial import Partial
from harness.datasets.sources.public import PublicDataset
from harness.datasets.sources.source import Source

__all__ = ["LOADERS", "PINNED_FILES"]

BINARY = Levels(2, "bernoulli")
GREY_28 = (1, 28, 28)


def _amat_file(name: str, sha256: str, megabytes: int) -> Remote:
    file = f"binarized_mnist_{name}.amat"
    folder = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
    origin = "H. Larochelle's page of binarized MNIST"
    return Remote(
        file=file,
        urls=(f"{folder}/{file}",),
        checksum=f"sha256:{sha256}",
        megabytes=megabytes,
        origin=origin,
    )


_AMAT_FILES = (
    _amat_file("train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d", 78),
    _amat_file("valid", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2", 16),
    _amat_file("test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c", 16),
)


MNIST_STATIC = PublicDataset(
    name="mnist-static",
    summary="MNIST made binary once (Larochelle), 28x28, for variational autoencoders",
    sources=(Source.of(_AMAT_FILES, image_files.amat),),
    rows={"train": 50_000, "val": 10_000, "test": 10_000},
    shape=GREY_28,
    prepare=as_they_are,
    remotes=_AMAT_FILES,
    part="mnist-static-partial",
    encoding=BINARY,
)

OMNIGLOT = PublicDataset(
    name="omniglot",
    summary="characters of 50 alphabets (IWAE), 28x28, made binary anew in every training batch, "
    "for variational autoencoders",
    sources=(
        Source(
            ("chardata.mat",),
            image_files.omniglot,
            ("git:016a3536ffe5e1d38e42563a18d7a78bfaf643ec",),
        ),
    ),
    rows={"data": 24_345, "testdata": 8_070},
    shape=GREY_28,
    prepare=omniglot_splits,
    package="scipy",
    origin="datasets/OMNIGLOT of yburda/iwae on GitHub",
    part="omniglot-partial",
    encoding=Binarised(),
)

OMNIGLOT_RAW = PublicDataset(
    name="omniglot-raw-partial",
    summary="4,840 of the 32,460 original characters of Omniglot, shrunk from 105x105 to 28x28, "
    "for variational autoencoders; for checks, not for tables",
    sources=(
        Source(
            ("omniglot-raw-partial.npz",),
            npz.parts,
            ("sha256:40a3f46677e100f82c18997bbd72bb58aa46465aea935a3985c20678e958261b",),
        ),
    ),
    rows={"data": 4_840},
    shape=GREY_28,
    prepare=shrunk,
    encoding=Binarised(scale=225.0),
)

_FREY_FILE = Remote(
    file="freyfaces.pkl",
    urls=("https://github.com/y0ast/Variational-Autoencoder/raw/master/freyfaces.pkl",),
    checksum="sha256:3b69410c6a5fd6e03f09012905168be3712373a094a776f7e58fcd0670d2138a",
    megabytes=4,
    origin="y0ast/Variational-Autoencoder on GitHub",
)
FREYFACES = PublicDataset(
    name="freyfaces",
    summary="1,965 frames of a face, 28x20 in 256 greys, for variational autoencoders; split of "
    "seed 123",
    sources=(
        Source.of((_FREY_FILE,), image_files.freyfaces),
        Source(
            ("freyfaces.npz",),
            npz.parts,
            ("sha256:a8a8aa235ffe678af7e158a18c6257cac821c34ec1fd3921fa641b2943f413ae",),
        ),
    ),
    rows={"data": 1_965},
    shape=(1, 28, 20),
    prepare=partial(frey_splits, seed=123),
    remotes=(_FREY_FILE,),
    part="freyfaces-partial",
    encoding=Levels(256, "categorical"),
)

CALTECH = PublicDataset(
    name="caltech-silhouettes",
    summary="8,671 binary outlines of objects, 28x28, in Marlin's splits, for variational "
    "autoencoders",
    sources=(Source(("caltech101_silhouettes_28_split1.mat",), image_files.caltech),),
    rows={"train": 4_100, "val": 2_264, "test": 2_307},
    shape=GREY_28,
    prepare=as_they_are,
    package="scipy",
    origin="people.cs.umass.edu/~marlin/data",
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
    prepare=partial(as_they_are, shape=GREY_28),
    package=None,
    origin=None,
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
