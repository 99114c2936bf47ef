"""MNIST and CIFAR10 for density models (FFJORD, arXiv:1810.01367, table 2).

**Validation.** The paper trains on all training images, and its code chooses the best epoch by the
test images. Here the test images are never looked at before the end. `mnist` and `cifar10` train
on all images as the paper does; their `val` is the last 10,000 (5,000) of these, which shows that
training goes well and chooses among its arrays, but is not held out. `mnist-heldout` and
`cifar10-heldout` keep the same images out of training, as the MAF code does: 50,000 + 10,000 and
45,000 + 5,000.

**Margin of the logit.** The paper is silent; its code has alpha = 1e-6 for every dataset, and so
have these. RNODE's scripts (arXiv:2002.02798) have 1e-5 for MNIST and 0.05 for CIFAR10; datasets
of these margins are `mnist-alpha1e-5` and `cifar10-alpha5e-2`. Bits/dim are of the same images
whatever the margin.

CIFAR10 is read from the binary version of its archive, or from the six files that it unpacks to.
The better known archive is of pickles, the binary one holds the same bytes and needs no trust.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from harness.datasets.base import Loader
from harness.datasets.encodings import Logit
from harness.datasets.families import own as npz
from harness.datasets.families.image_splits import split_off
from harness.datasets.formats import images as image_files
from harness.datasets.sources.download import Remote
from harness.datasets.sources.partial import Partial
from harness.datasets.sources.public import PublicDataset
from harness.datasets.sources.source import Source

__all__ = ["CIFAR10", "LOADERS", "MNIST", "PINNED_FILES"]


def _mnist_file(name: str, md5: str, megabytes: int) -> Remote:
    file = f"{name}-images-idx3-ubyte.gz"
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    )
    urls = tuple(f"{mirror}/{file}" for mirror in mirrors)
    return Remote(
        file=f"mnist/{file}",
        urls=urls,
        checksum=f"md5:{md5}",
        megabytes=megabytes,
        origin="the MNIST database",
    )


_MNIST_FILES = (
    _mnist_file("train", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 10),
    _mnist_file("t10k", "9fb629c4189551a2d022fa330f9573f3", 2),
)
MNIST = PublicDataset(
    name="mnist",
    summary="60,000 grey images of handwritten digits, 28x28, logit margin 1e-6; validation is on "
    "10,000 of them",
    sources=(Source.of(_MNIST_FILES, image_files.idx),),
    rows={"train": 60_000, "test": 10_000},
    shape=(1, 28, 28),
    prepare=partial(split_off, share=6, held_out=False),
    remotes=_MNIST_FILES,
    part="mnist-partial",
    encoding=Logit(256, 1e-6),
)

_CIFAR10_FILE = Remote(
    file="cifar-10-binary.tar.gz",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",
    megabytes=170,
    origin="A. Krizhevsky's page of CIFAR-10",
)
_CIFAR10_BATCHES = {
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
CIFAR10 = PublicDataset(
    name="cifar10",
    summary="50,000 colour photographs, 32x32, mirrored in training, logit margin 1e-6; "
    "validation is on 5,000 of them",
    sources=(
        Source.of((_CIFAR10_FILE,), image_files.cifar10),
        Source(
            tuple(f"cifar-10-batches-bin/{name}.bin" for name in _CIFAR10_BATCHES),
            image_files.cifar10_batches,
            tuple(f"sha256:{digest}" for digest in _CIFAR10_BATCHES.values()),
        ),
    ),
    rows={"train": 50_000, "test": 10_000},
    shape=(3, 32, 32),
    prepare=partial(split_off, share=10, held_out=False),
    remotes=(_CIFAR10_FILE,),
    part="cifar10-partial",
    encoding=Logit(256, 1e-6),
    flip=True,
)

_VARIANTS = (
    replace(
        MNIST,
        name="mnist-heldout",
        summary="mnist without the last 10,000 training images, which validate",
        prepare=partial(split_off, share=6, held_out=True),
    ),
    replace(
        MNIST,
        name="mnist-alpha1e-5",
        summary="mnist with the logit margin 1e-5, as RNODE has it",
        encoding=Logit(256, 1e-5),
    ),
    replace(
        CIFAR10,
        name="cifar10-heldout",
        summary="cifar10 without the last 5,000 training images, which validate",
        prepare=partial(split_off, share=10, held_out=True),
    ),
    replace(
        CIFAR10,
        name="cifar10-alpha5e-2",
        summary="cifar10 with the logit margin 0.05, as RNODE has it",
        encoding=Logit(256, 0.05),
    ),
)

_CIFAR10_PART = replace(
    CIFAR10,
    name="cifar10-partial",
    summary="8,068 + 1,017 of the 60,000 images of CIFAR10; for checks, not for tables",
    sources=(
        Source(
            ("cifar10-partial.npz",),
            npz.parts,
            ("sha256:732dc43349aa3bacd43d57984e88bd04553ae49f10433a84930ef34bd0ad442e",),
        ),
    ),
    rows={"train": 8_068, "test": 1_017},
    remotes=(),
    part=None,
)

LOADERS: Mapping[str, Loader] = {
    **{dataset.name: dataset for dataset in (MNIST, CIFAR10, *_VARIANTS)},
    "mnist-partial": Partial(MNIST),
    "cifar10-partial": Partial(CIFAR10, _CIFAR10_PART),
}

PINNED_FILES = frozenset({_CIFAR10_PART.name})
"""Stems of npz files in the data folder that are ours, not datasets of the user."""
