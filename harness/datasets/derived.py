"""Splits that are derived once from raw files, then mapped from `HARNESS_CACHE_DIR`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from harness.datasets.base import SPLITS, Array, Split
from harness.datasets.folders import cache_dir, caching, exclusive, publish
from harness.errors import DataError

__all__ = ["Derivation", "Prepare", "derived", "is_derived", "split_writers"]

Prepare = Callable[..., Mapping[Split, Array]]
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


def split_writers(
    dataset: str,
    files: str,
    prepare: Prepare,
    parts: Mapping[str, Array],
    shape: tuple[int, ...] | None = None,
) -> Iterator[tuple[Split, Callable[[BinaryIO], None]]]:
    """Prepares parts and yields each split with what writes its npy file.

    Raises:
        DataError: The parts are of other data, a split is empty or has NaN or infinite values, or
            rows do not have the given shape.
    """
    try:
        # A column that is constant, or not finite, is an error below.
        with np.errstate(divide="ignore", invalid="ignore"):
            splits = prepare(**parts)
    except (ValueError, LookupError) as error:
        shapes = " and ".join(str(rows.shape) for rows in parts.values())
        raise DataError(
            f"dataset '{dataset}': {files} holds other data, of shape {shapes}"
        ) from error
    for split, rows in splits.items():
        if len(rows) == 0:
            raise DataError(f"dataset '{dataset}': {files} is too short: '{split}' has no rows")
        if rows.shape[1:] != (shape or rows.shape[1:]):
            raise DataError(
                f"dataset '{dataset}': {files} leaves {_shape(rows.shape[1:])} dimensions, "
                f"expected {_shape(shape or ())}; it is another version"
            )
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            raise DataError(f"dataset '{dataset}': {files}: '{split}' has NaN or infinite values")
        yield split, _npy_writer(rows)


def _npy_writer(rows: Array, chunk: int = 10_000) -> Callable[[BinaryIO], None]:
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


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


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
