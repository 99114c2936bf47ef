"""Reads npz files array by array, only those that are asked for, within the memory they promise.

An archive may be damaged, encrypted, packed by a method that Python lacks, or promise more than it
holds; whatever it is, its reader says so with the name of the file.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from harness.errors import DataError

__all__ = ["TEXT", "names_in", "not_data", "read_npz"]

Array = npt.NDArray[np.generic]

TEXT = "a text file"
_SUFFIX = ".npy"
_PACKED_AT_MOST = 300
_ALWAYS_FINE = 1 << 30
"""Bytes of an array up to which it may be packed as tightly as can be."""
_HEADER_BYTES = 10_000


def names_in(dataset: str, path: Path) -> list[str]:
    """Names of the arrays in an npz file.

    Raises:
        DataError: It is not one.
    """
    with _opened(dataset, path) as archive:
        return [name.removesuffix(_SUFFIX) for name in archive.namelist()]


def read_npz(dataset: str, path: Path, wanted: Collection[str]) -> dict[str, Array]:
    """Reads some arrays of an npz file, those of them that are there; objects are refused.

    Raises:
        DataError: The file is not an npz file of plain arrays, or one promises what is not there.
    """
    with _opened(dataset, path) as archive:
        members = {info.filename.removesuffix(_SUFFIX): info for info in archive.infolist()}
        return {name: _array(archive, members[name]) for name in wanted if name in members}


def not_data(path: Path) -> str | None:
    """What a file is that stands where data should be: a pointer, a page, a text; None if not."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"version https://git-lfs"):
        return (
            "a pointer of Git LFS and not the file itself: run 'git lfs pull' where it came from"
        )
    if head.lstrip()[:1] == b"<":
        return "a web page, saved in the place of the file: download the file itself"
    if head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return TEXT
    return None


@contextmanager
def _opened(dataset: str, path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        other = not_data(path)
        if other:
            raise ValueError(f"it is {other}")
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise ValueError("it is a single array")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DataError:
        raise
    # Among others NotImplementedError (a method), RuntimeError (encrypted), zlib.error, LZMAError,
    # errors of the tokenizer in a header: the archive decides what is raised.
    except Exception as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        # Messages of OSError name folders, which records must not hold.
        if isinstance(error, OSError):
            cause = error.strerror or type(error).__name__
        raise DataError(
            f"dataset '{dataset}': {path.name} cannot be read as an npz file of plain arrays "
            f"({cause}); write it with numpy.savez({path.name!r}, train=..., val=..., test=...)"
        ) from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """Reads one array, after its header agrees with the size of the member."""
    if info.file_size > max(_ALWAYS_FINE, _PACKED_AT_MOST * info.compress_size):
        raise ValueError(
            f"{info.filename} promises {info.file_size:,} bytes, far more than it has"
        )
    with archive.open(info) as file:
        shape, dtype = _header(cast(BinaryIO, file))
        promised, held = math.prod(shape) * dtype.itemsize, info.file_size - file.tell()
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds objects, not numbers")
        if promised != held:
            raise ValueError(
                f"{info.filename} promises {promised:,} bytes of numbers and has {held:,}"
            )
    with archive.open(info) as file:
        array: Array = np.lib.format.read_array(cast(BinaryIO, file), allow_pickle=False)
        return array


def _header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file, _HEADER_BYTES)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file, _HEADER_BYTES)
    else:
        raise ValueError(f"a header of version {version}, which numbers do not need")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"the shape {shape}")
    return shape, dtype
