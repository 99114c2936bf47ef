"""Miniature files in the original formats of the image datasets, for tests."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from data_files import at

from harness.datasets.folders import sha256
from harness.datasets.sources.public import PublicDataset
from harness.streams.stream import Stream

Bytes = npt.NDArray[np.uint8]

GREYS = Stream(0, "test/greys").uniform((784, 100))
GREYS[:, :5] = np.round(GREYS[:, :5])


def pixels(count: int, *shape: int, levels: int = 256, slot: str = "pixels") -> Bytes:
    return Stream(0, f"test/{slot}").integers(levels, (count, *shape)).astype(np.uint8)


def idx(images: Bytes) -> bytes:
    header = struct.pack(">4i", 2051, len(images), *images.shape[-2:])
    return gzip.compress(header + images.tobytes(), mtime=0)


def write_mnist(data: Path, train: Bytes, test: Bytes) -> list[Path]:
    paths = []
    for name, images in (("train", train), ("t10k", test)):
        path = at(data / f"mnist/{name}-images-idx3-ubyte.gz")
        path.write_bytes(idx(images))
        paths.append(path)
    return paths


def cifar10(train: Bytes, test: Bytes) -> bytes:
    """The archive, with labels that must not be taken for pixels."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        folder = tarfile.TarInfo("cifar-10-batches-bin")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        batches = np.array_split(train, 5)
        members = {f"data_batch_{i + 1}.bin": batches[i] for i in (2, 0, 1, 4, 3)}
        for name, images in {**members, "test_batch.bin": test, "readme.html": test[:1]}.items():
            flat = images.reshape(len(images), -1)
            labels = np.full((len(images), 1), 9, np.uint8)
            content = np.hstack([labels, flat]).tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def write_batches(data: Path, train: Bytes, test: Bytes) -> list[Path]:
    """The files that the archive unpacks to."""
    folder = data / "cifar-10-batches-bin"
    batches = {f"data_batch_{i + 1}": part for i, part in enumerate(np.array_split(train, 5))}
    paths = []
    for name, images in {**batches, "test_batch": test}.items():
        labels = np.full((len(images), 1), 9, np.uint8)
        path = at(folder / f"{name}.bin")
        path.write_bytes(np.hstack([labels, images.reshape(len(images), -1)]).tobytes())
        paths.append(path)
    return paths


def amat(images: Bytes) -> str:
    lines = (" ".join(map(str, image)) for image in images.reshape(len(images), -1).tolist())
    return "".join(f"{line}\n" for line in lines)


def write_amat(data: Path, **splits: Bytes) -> list[Path]:
    paths = []
    for name, images in splits.items():
        path = at(data / f"binarized_mnist_{name}.amat")
        path.write_text(amat(images))
        paths.append(path)
    return paths


def write_frey(data: Path, faces: Bytes, protocol: int = 0) -> list[Path]:
    path = at(data / "freyfaces.pkl")
    path.write_bytes(pickle.dumps([faces], protocol=protocol))
    return [path]


def write_mat(path: Path, arrays: Mapping[str, Any], *, compressed: bool = True) -> list[Path]:
    from scipy.io import savemat

    savemat(at(path), dict(arrays), do_compression=compressed)
    return [path]


def column_major(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Images [n, 28, 28] as MATLAB flattens them."""
    return images.reshape(len(images), 784, order="C")[:, np.arange(784).reshape(28, 28).T.ravel()]


def write_omniglot(data: Path, greys: npt.NDArray[np.float64] = GREYS) -> list[Path]:
    """81 images to train and validate, 19 to test, one a column."""
    return write_mat(data / "chardata.mat", {"data": greys[:, :81], "testdata": greys[:, 81:]})


def write_caltech(data: Path, **images: npt.NDArray[Any]) -> list[Path]:
    arrays = {
        f"{split}_data": 1 - column_major(pixels(count, 28, 28, levels=2, slot=split))
        for split, count in (("train", 20), ("val", 7), ("test", 9))
    }
    labels = {f"{split}_labels": np.ones((5, 1)) for split in ("train", "val", "test")}
    return write_mat(data / "caltech101_silhouettes_28_split1.mat", {**arrays, **labels, **images})


def small(whole: PublicDataset, paths: list[Path], **rows: int) -> PublicDataset:
    """A dataset whose complete files are the given ones of its first source."""
    checksums = tuple(f"sha256:{sha256(path)}" for path in paths)
    source = replace(whole.sources[0], checksums=checksums)
    return replace(whole, sources=(source, *whole.sources[1:]), rows=rows, remotes=())
