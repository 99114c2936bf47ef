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

from harness.datasets.files import sha256
from harness.datasets.public import PublicDataset
from harness.streams import Stream

Bytes = npt.NDArray[np.uint8]


def pixels(count: int, *shape: int, levels: int = 256, slot: str = "pixels") -> Bytes:
    return Stream(0, f"test/{slot}").integers(levels, (count, *shape)).astype(np.uint8)


def at(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


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


def small(whole: PublicDataset, paths: list[Path], **rows: int) -> PublicDataset:
    """A dataset whose complete files are the given ones of its first source."""
    checksums = tuple(f"sha256:{sha256(path)}" for path in paths)
    source = replace(whole.sources[0], checksums=checksums)
    return replace(whole, sources=(source, *whole.sources[1:]), rows=rows, remotes=())
