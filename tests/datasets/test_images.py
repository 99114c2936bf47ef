"""MNIST and CIFAR10 from miniature files in the original formats."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_files import at
from image_data import Bytes, cifar10, idx, pixels, small, write_batches, write_mnist

from harness.datasets.base import Batching, Dataset, Split
from harness.datasets.encodings import Logit
from harness.datasets.families.density_images import CIFAR10, LOADERS, MNIST
from harness.datasets.folders import sha256
from harness.datasets.registry import declare, load, names
from harness.datasets.sources.public import PublicDataset
from harness.errors import DataError

pytestmark = pytest.mark.usefixtures("data")

TRAIN, TEST = pixels(60, 28, 28, slot="train"), pixels(10, 28, 28, slot="test")
PHOTOS, MORE = pixels(50, 3, 32, 32, slot="train"), pixels(10, 3, 32, 32, slot="test")


def variant(name: str) -> PublicDataset:
    whole = LOADERS[name]
    assert isinstance(whole, PublicDataset)
    return whole


def levels(dataset: Dataset, split: Split) -> Bytes:
    """The pixels of a split, from its rows."""
    return np.floor(dataset.to_data(dataset.rows(split).x)).astype(np.uint8)


def write_cifar10(data: Path, train: Bytes = PHOTOS, test: Bytes = MORE) -> list[Path]:
    path = data / "cifar-10-binary.tar.gz"
    path.write_bytes(cifar10(train, test))
    return [path]


def test_mnist(data: Path) -> None:
    mnist = small(MNIST, write_mnist(data, TRAIN, TEST), train=60, test=10).load()
    assert mnist.info.event_shape == (1, 28, 28)
    assert dict(mnist.sizes()) == {"train": 60, "val": 10, "test": 10}
    np.testing.assert_array_equal(levels(mnist, "train")[:, 0], TRAIN)
    np.testing.assert_array_equal(levels(mnist, "val")[:, 0], TRAIN[50:])
    np.testing.assert_array_equal(levels(mnist, "test")[:, 0], TEST)
    # The same images validate and train, but not with the same noise.
    assert (mnist.rows("val").x != mnist.rows("train").x[50:]).all()


def test_cifar10(data: Path) -> None:
    photos = small(CIFAR10, write_cifar10(data), train=50, test=10).load()
    assert photos.info.event_shape == (3, 32, 32)
    assert dict(photos.sizes()) == {"train": 50, "val": 5, "test": 10}
    np.testing.assert_array_equal(levels(photos, "train"), PHOTOS)
    np.testing.assert_array_equal(levels(photos, "val"), PHOTOS[45:])
    np.testing.assert_array_equal(levels(photos, "test"), MORE)


def test_cifar10_from_what_its_archive_unpacks_to(data: Path) -> None:
    """The same dataset under the same digest, whichever form is there; the archive goes first."""
    paths = write_batches(data, PHOTOS, MORE)
    digests = tuple(f"sha256:{sha256(path)}" for path in paths)
    archive, batches = CIFAR10.sources
    assert declare("cifar10").available
    digest = declare("cifar10").digest
    with pytest.raises(DataError, match=r"data_batch_1\.bin has SHA-256 .* fetch it again"):
        replace(CIFAR10, rows={"train": 50, "test": 10}).load()
    dataset = replace(
        CIFAR10,
        sources=(archive, replace(batches, checksums=digests)),
        rows={"train": 50, "test": 10},
    )
    photos = dataset.load()
    np.testing.assert_array_equal(levels(photos, "train"), PHOTOS)
    np.testing.assert_array_equal(levels(photos, "test"), MORE)
    cut(paths[-1], 0.95)
    with pytest.raises(DataError, match=r"has 9 rows of 'test', expected 10;"):
        dataset.load()
    write_cifar10(data)
    assert declare("cifar10").digest == digest
    found = CIFAR10.find()
    assert found is not None
    assert found[0] is archive


def test_only_cifar10_is_mirrored(data: Path) -> None:
    mnist = small(MNIST, write_mnist(data, TRAIN, TEST), train=60, test=10).load()
    photos = small(CIFAR10, write_cifar10(data), train=50, test=10).load()
    for dataset, images, mirrored in ((mnist, TRAIN[:, None], False), (photos, PHOTOS, True)):
        seen = set()
        for step in range(4):
            batch = np.floor(dataset.to_data(dataset.training_batch(0, step, Batching(40)).x))
            seen |= {image.astype(np.uint8).tobytes() for image in batch}
        flipped = {image[..., ::-1].tobytes() for image in images}
        assert seen <= {image.tobytes() for image in images} | flipped
        assert bool(seen & flipped) == mirrored


@pytest.mark.parametrize(
    ("name", "share"), [("mnist-heldout", (50, 10, 10)), ("cifar10-heldout", (45, 5, 10))]
)
def test_validation_can_be_held_out(name: str, share: tuple[int, int, int], data: Path) -> None:
    if name.startswith("mnist"):
        dataset = small(variant(name), write_mnist(data, TRAIN, TEST), train=60, test=10).load()
    else:
        dataset = small(variant(name), write_cifar10(data), train=50, test=10).load()
    assert tuple(dataset.sizes()[key] for key in ("train", "val", "test")) == share
    seen = {image.tobytes() for image in levels(dataset, "train")}
    assert not seen & {image.tobytes() for image in levels(dataset, "val")}


@pytest.mark.parametrize(
    ("name", "alpha"),
    [
        *((name, 1e-6) for name in ("mnist", "mnist-heldout", "cifar10", "cifar10-heldout")),
        ("mnist-alpha1e-5", 1e-5),
        ("cifar10-alpha5e-2", 0.05),
    ],
)
def test_margins(name: str, alpha: float, data: Path) -> None:
    """Released, and RNODE's: no value lies beyond the logit of the margin."""
    whole = variant(name)
    assert whole.encoding == Logit(256, alpha)
    if name.startswith("mnist"):
        extreme = np.zeros((60, 28, 28), np.uint8)
        dataset = small(whole, write_mnist(data, extreme, TEST), train=60, test=10).load()
    else:
        extreme = np.zeros((50, 3, 32, 32), np.uint8)
        dataset = small(whole, write_cifar10(data, extreme), train=50, test=10).load()
    bottom = np.log(alpha / (1 - alpha))
    # The lowest level reaches up to alpha + (1 - 2 alpha) / 256.
    s = alpha + (1 - 2 * alpha) / 256
    x = dataset.training_batch(0, 0, Batching(40)).x
    assert x.min() > bottom
    assert x.max() < np.log(s / (1 - s))


def test_digests_differ_and_do_not_depend_on_files(data: Path) -> None:
    before = {name: declare(name).digest for name in LOADERS if not name.endswith("-partial")}
    assert len(set(before.values())) == len(before) == 6
    write_mnist(data, TRAIN, TEST)
    write_cifar10(data)
    assert {name: declare(name).digest for name in before} == before
    assert all(declare(name).available for name in before)


def test_what_would_be_downloaded(data: Path) -> None:
    assert declare("mnist").reason == "will download 12 MB"
    assert declare("cifar10").reason == "will download 170 MB"
    at(data / "mnist/t10k-images-idx3-ubyte.gz").write_bytes(idx(TEST))
    assert declare("mnist").reason == "will download 10 MB"
    partial = declare("mnist-partial")
    assert partial.reason is not None
    assert partial.reason.startswith(
        "the folder that HARNESS_DATA_DIR names has no mnist/train-images-idx3-ubyte.gz"
    )


def cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


def cut_mnist(data: Path) -> None:
    cut(write_mnist(data, TRAIN, TEST)[0], 0.5)


def short_mnist(data: Path) -> None:
    write_mnist(data, TRAIN[:30], TEST)


def cut_cifar10(data: Path) -> None:
    """The test images come last, and are cut."""
    cut(write_cifar10(data)[0], 0.95)


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (cut_mnist, "mnist", r"has (28|29|30) rows of 'train', expected 60,000"),
        (short_mnist, "mnist", r"has 30 rows of 'train', expected 60,000"),
        (short_mnist, "mnist-heldout", r"has 30 rows of 'train', expected 60,000"),
        (
            cut_cifar10,
            "cifar10",
            r"cifar-10-binary.tar.gz has 50 rows of 'train', expected 50,000",
        ),
    ],
)
def test_an_incomplete_file_is_refused_and_runs_as_a_part(
    write: Callable[[Path], None], name: str, message: str, data: Path
) -> None:
    write(data)
    part = f"{name.removesuffix('-heldout')}-partial"
    with pytest.raises(DataError, match=message) as caught:
        load(name)
    assert f"runs only as '{part}'" in str(caught.value)
    declared = declare(part)
    assert declared.available
    dataset = load(part, digest=declared.digest)
    assert dataset.info.name == part
    original = TRAIN[:, None] if name.startswith("mnist") else PHOTOS
    images = levels(dataset, "train")
    assert 25 < len(images) <= 50
    np.testing.assert_array_equal(images, original[: len(images)])
    assert dataset.bits_per_dim


def test_other_files_of_the_right_length(data: Path) -> None:
    """With the pinned checksums of the published files."""
    write_mnist(data, TRAIN, TEST)
    rows = {"train": 60, "test": 10}
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz has MD5 .* fetch it again"):
        replace(MNIST, rows=rows).load()
    write_cifar10(data)
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz has MD5"):
        replace(CIFAR10, rows={"train": 50, "test": 10}).load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a file of images in the IDX format"),
        (b"no gzip at all", "cannot be read as a file of images"),
        (gzip.compress(b""), "cannot be read as a file of images"),
        (gzip.compress(b"\x00\x00\x08\x03"), "cannot be read as a file of images"),
        (gzip.compress(b"\x00\x00\x08\x01" + bytes(100)), "it does not begin as one"),
        (idx(pixels(60, 20, 28)), r"leaves 1x20x28 dimensions, expected 1x28x28"),
    ],
)
def test_damaged_mnist(content: bytes, message: str, data: Path) -> None:
    paths = write_mnist(data, TRAIN, pixels(10, 20, 28))
    paths[0].write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        small(MNIST, paths, train=60, test=10).load()
    assert str(data) not in str(caught.value)
    assert not list((data.parent / "cache").rglob("*.npy"))


def test_a_flipped_bit(data: Path) -> None:
    paths = write_mnist(data, TRAIN, TEST)
    content = bytearray(paths[0].read_bytes())
    content[1000] ^= 1
    paths[0].write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz"):
        replace(MNIST, rows={"train": 60, "test": 10}).load()


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"no archive"), bytes(2000)])
def test_damaged_cifar10(content: bytes, data: Path) -> None:
    (data / "cifar-10-binary.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as the archive of CIFAR-10"):
        load("cifar10")


def test_a_file_without_end_is_not_unpacked_to_its_end(data: Path) -> None:
    """A gigabyte of zeros in a megabyte: only as much is taken as the images can have."""
    paths = write_mnist(data, TRAIN, TEST)
    paths[0].write_bytes(idx(TRAIN)[:-8] + gzip.compress(bytes(1 << 26)))
    header = gzip.decompress(idx(np.zeros((60, 28, 28), np.uint8)))
    paths[0].write_bytes(gzip.compress(header + bytes(1 << 26)))
    dataset = small(MNIST, paths, train=60, test=10).load()
    assert dataset.sizes()["train"] == 60


def test_the_part_in_the_data_folder(data: Path) -> None:
    assert not declare("cifar10-partial").available
    np.savez(data / "cifar10-partial.npz", train=PHOTOS, test=MORE)
    assert declare("cifar10-partial").available
    assert "cifar10-partial" in names()
    with pytest.raises(DataError, match=r"has 50 rows of 'train', expected 8,068"):
        load("cifar10-partial")


def test_images_stay_bytes_and_are_read_once(data: Path) -> None:
    """Arrays are mapped; the raw files may go once they have been read."""
    paths = write_mnist(data, TRAIN, TEST)
    mnist = small(MNIST, paths, train=60, test=10)
    mnist.load()
    arrays = sorted((data.parent / "cache").rglob("*.npy"))
    assert [np.load(path).dtype for path in arrays] == [np.uint8] * 3
    assert sum(path.stat().st_size for path in arrays) < 80 * 784 + 3 * 200
    dataset = mnist.load()
    for path in paths:
        path.unlink()
    assert dataset.training_batch(0, 0, Batching(10)).x.shape == (10, 1, 28, 28)


def test_reading_needs_no_pickle(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pickle", None)
    assert small(CIFAR10, write_cifar10(data), train=50, test=10).load().sizes()["test"] == 10
