"""Reads the original files of the image datasets as they are.

The readers have the form of those of `harness.datasets.formats.maf`; their parts are pixels
[n, channels, height, width]. A file that is cut short gives the images that it has whole.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Parts
from harness.datasets.formats.pickle import read_pickle
from harness.datasets.formats.text_tables import reading
from harness.errors import DataError

__all__ = ["amat", "caltech", "cifar10", "cifar10_batches", "freyfaces", "idx", "omniglot"]

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


def idx(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """The two image files of MNIST, `*-images-idx3-ubyte.gz`: the parts `train` and `test`.

    A file is 16 bytes, the numbers 2051, images, rows, columns as big-endian integers, then the
    pixels.
    """
    parts = {}
    for (part, limit), path in zip(rows.items(), paths, strict=True):
        with reading(dataset, path, "a file of images in the IDX format"):
            raw = _gunzipped(path, 16 + limit * 28 * 28)
            magic, count, height, width = (int(side) for side in np.frombuffer(raw[:16], ">u4"))
            if magic != 2051 or min(height, width) == 0:
                raise ValueError("it does not begin as one")
            pixels = np.frombuffer(raw, np.uint8, offset=16)
            count = min(count, len(pixels) // (height * width))
            parts[part] = pixels[: count * height * width].reshape(count, 1, height, width)
    return parts


def cifar10(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`cifar-10-binary.tar.gz`: the parts `train`, five batches in their order, and `test`."""
    (path,) = paths
    with reading(dataset, path, "the archive of CIFAR-10"):
        raw = _gunzipped(path, sum(rows.values()) * _RECORD + (1 << 20))
        pixels: dict[str, Bytes] = {}
        # Python's tarfile skips from header to header; an archive that is cut short ends there.
        with suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            for member in tar:
                if member.isreg() and member.name.startswith("cifar-10-batches-bin/"):
                    end = member.offset_data + member.size
                    flat = np.frombuffer(raw, np.uint8)[member.offset_data : end]
                    pixels[member.name.rpartition("/")[2]] = _photographs(flat)
        if not pixels:
            raise ValueError("it has no cifar-10-batches-bin")
        none = np.empty((0, 3, 32, 32), np.uint8)
        return {
            part: np.concatenate([pixels.get(name, none) for name in _BATCHES[part]])
            for part in rows
        }


def cifar10_batches(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """The six files that the archive unpacks to, `data_batch_1.bin` to `test_batch.bin`."""
    by_name = {path.name: path for path in paths}
    parts = {}
    for part in rows:
        images = []
        for name in _BATCHES[part]:
            with reading(dataset, by_name[name], "a batch of CIFAR-10"):
                images.append(_photographs(np.fromfile(by_name[name], np.uint8)))
        parts[part] = np.concatenate(images)
    return parts


_BATCHES: Mapping[str, Sequence[str]] = {
    "train": [f"data_batch_{number}.bin" for number in range(1, 6)],
    "test": ["test_batch.bin"],
}
_RECORD = 1 + 3 * 32 * 32


def _photographs(flat: Bytes) -> Bytes:
    """Images of records: a label, then the red, green and blue plane."""
    count = len(flat) // _RECORD
    records = flat[: count * _RECORD].reshape(count, _RECORD)
    return records[:, 1:].reshape(count, 3, 32, 32)


def amat(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`binarized_mnist_*.amat`: a line an image, 784 zeros and ones with blanks between."""
    parts = {}
    for part, path in zip(rows, paths, strict=True):
        with reading(dataset, path, "a text of binary images"):
            text = np.fromfile(path, np.uint8)
            count = len(text) // 1568
            lines = text[: count * 1568].reshape(count, 784, 2)
            images, blanks = lines[..., 0] - ord("0"), lines[..., 1]
            good = (images <= 1) & (blanks == ord(" "))
            good[:, -1] = (images[:, -1] <= 1) & (blanks[:, -1] == ord("\n"))
            if count == 0 or not good.all():
                line = int(np.argmin(good.all(axis=1))) + 1 if count else 1
                raise ValueError(f"line {line} is not 784 zeros and ones")
            parts[part] = images.reshape(count, 1, 28, 28)
    return parts


def freyfaces(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`freyfaces.pkl`, a list with one array of bytes [1965, 560]: the part `data`."""
    (path,) = paths
    content = read_pickle(dataset, path)
    with reading(dataset, path, "the pickle of Frey Faces"):
        faces = content[0] if isinstance(content, list) and content else None
        if not isinstance(faces, np.ndarray) or faces.dtype != np.uint8:
            raise ValueError("it is not a list with an array of bytes")
        return {"data": faces}


def omniglot(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`chardata.mat` of the IWAE authors: the parts `data` and `testdata`, greys in [0, 1].

    A column is an image, pixels column by column.
    """
    (path,) = paths
    arrays = _mat(dataset, path, list(rows))
    with reading(dataset, path, "the MATLAB file of Omniglot"):
        parts = {part: _upright(greys.T).astype(np.float32) for part, greys in arrays.items()}
        if not all(greys.min() >= 0 and greys.max() <= 1 for greys in parts.values()):
            raise ValueError("its pixels are not in [0, 1]")
        return parts


def caltech(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`caltech101_silhouettes_28_split1.mat`: the splits, 1 = object.

    A row is an image, pixels column by column, where the object is 0.
    """
    (path,) = paths
    arrays = _mat(dataset, path, [f"{part}_data" for part in rows])
    with reading(dataset, path, "the MATLAB file of the silhouettes"):
        if not all(np.isin(images, (0, 1)).all() for images in arrays.values()):
            raise ValueError("its pixels are not 0 and 1")
        return {part: 1 - _upright(arrays[f"{part}_data"]).astype(np.uint8) for part in rows}


def _gunzipped(path: Path, limit: int) -> bytes:
    """What can be decompressed of a gzip file, at most `limit` bytes; it may be cut short."""
    return zlib.decompressobj(wbits=31).decompress(path.read_bytes(), limit)


def _upright(images: Array) -> Array:
    """Images of 28 x 28 pixels, [n, 784] column by column, as [n, 1, 28, 28] row by row."""
    return images.reshape(-1, 1, 28, 28).transpose(0, 1, 3, 2)


def _mat(dataset: str, path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Arrays of a MATLAB file; the format cannot hold code."""
    with path.open("rb") as file:
        head = file.read(520)
    if head.startswith(b"MATLAB 7.3") or b"\x89HDF\r\n" in (head[:6], head[512:518]):
        raise DataError(
            f"dataset '{dataset}': {path.name} is a file of MATLAB 7.3, which is HDF5; take the "
            "published file, or save it in MATLAB with the option '-v7'"
        )
    with _scipy(dataset, path) as loadmat:
        contents = loadmat(path, variable_names=list(names))
    arrays = {}
    for name in names:
        array = contents.get(name)
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "buif":
            raise DataError(f"dataset '{dataset}': {path.name} has no table of numbers '{name}'")
        arrays[name] = array
    return arrays


@contextmanager
def _scipy(dataset: str, path: Path) -> Iterator[Any]:
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise DataError(
            f"dataset '{dataset}' is read with scipy, which is not installed; "
            "run: pip install 'cnf-harness[data]'"
        ) from error
    try:
        with reading(dataset, path, "a MATLAB file"):
            yield loadmat
    except (MatReadError, NotImplementedError) as error:
        raise DataError(
            f"dataset '{dataset}': {path.name} cannot be read as a MATLAB file; it is damaged or "
            "cut short, fetch it again"
        ) from error
