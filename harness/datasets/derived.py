"""Arrays that are derived once from raw files, then mapped from `HARNESS_CACHE_DIR`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Split
from harness.datasets.files import cache_dir, caching, exclusive, publish
from harness.errors import DataError

__all__ = ["Derivation", "derived", "is_derived", "npy_writer"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")

Array = npt.NDArray[Any]
Derivation = Callable[[], Iterable[tuple[Split, Callable[[BinaryIO], object]]]]


def is_derived(dataset: str, key: str) -> bool:
    """True if the arrays lie in the cache."""
    return all(_path(dataset, key, split).is_file() for split in SPLITS)


def derived(dataset: str, key: str, derive: Derivation) -> dict[Split, Array]:
    """Arrays of the three splits, mapped to memory; derived first if they are not in the cache.

    One process of a machine derives, others wait for it.

    Arguments:
        dataset: Name of the dataset.
        key: Stands for the raw bytes and the version of the loader.
        derive: Gives each split with what writes its npy file.

    Raises:
        DataError: The cache is damaged or cannot be written, or `derive` says so.
    """
    if not is_derived(dataset, key):
        with caching(dataset), exclusive(cache_dir() / dataset / f"{key}.derive"):
            if not is_derived(dataset, key):
                for split, write in derive():
                    publish(_path(dataset, key, split), write)
    return {split: _mapped(dataset, key, split) for split in SPLITS}


def npy_writer(rows: Array, chunk: int = 10_000) -> Callable[[BinaryIO], None]:
    """What writes an array as an npy file.

    Unlike numpy's own writing it goes through Python's files, which name the cause of a failure.
    """

    def write(file: BinaryIO) -> None:
        descr = np.lib.format.dtype_to_descr(rows.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": rows.shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), chunk):
            file.write(rows[start : start + chunk].tobytes())

    return write


def _path(dataset: str, key: str, split: Split) -> Path:
    return cache_dir() / dataset / key / f"{split}.npy"


def _mapped(dataset: str, key: str, split: Split) -> Array:
    try:
        rows = np.load(_path(dataset, key, split), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"dataset '{dataset}': the derived {split}.npy is damaged; delete the folder "
            f"{dataset} in HARNESS_CACHE_DIR and it will be derived again"
        ) from error
    return cast(Array, rows)
