"""Files of points and of answers: csv, npz and parquet."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from harness.errors import AnswerError, HarnessError, Problem
from harness.records.files import replace

__all__ = ["FORMATS", "read_points", "write_table"]

Array = npt.NDArray[Any]

FORMATS = (".csv", ".npz", ".parquet")


def read_points(path: Path) -> Array:
    """Reads rows of numbers.

    Arguments:
        path: A csv file with or without a line of names, or a parquet file: of columns named x0,
            x1, ... these, otherwise all, in their order; or an npz file with the array `x`, or a
            single one.

    Returns:
        [n, D], or what the array of an npz file is.

    Raises:
        AnswerError: The file is absent, of another format, or not rows of numbers.
        HarnessError: pyarrow, which reads parquet, is not installed.
    """
    if path.suffix not in FORMATS:
        _refuse(path, "is of no format that is known here", known=FORMATS)
    read = {".csv": _csv, ".npz": _npz, ".parquet": _parquet}[path.suffix]
    try:
        return read(path)
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror or error}")
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        _refuse(path, f"cannot be read as rows of numbers: {cause}")


def write_table(path: Path, columns: Mapping[str, Array]) -> None:
    """Writes arrays of equally many rows; those of several columns get numbered names in a table.

    Raises:
        AnswerError: The format is not known.
        StorageError: The file cannot be written.
        HarnessError: pyarrow, which writes parquet, is not installed.
    """
    if path.suffix not in FORMATS:
        _refuse(path, "is of no format that is known here", known=FORMATS)
    file = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(file, allow_pickle=False, **columns)
    else:
        flat = _flat(columns)
        if path.suffix == ".csv":
            # 17 digits give every float64 back.
            rows = np.stack(list(flat.values()), axis=1)
            np.savetxt(file, rows, fmt="%.17g", delimiter=",", header=",".join(flat), comments="")
        else:
            pyarrow, parquet = _pyarrow()
            parquet.write_table(pyarrow.table(flat), file)
    replace(path, file.getvalue())


def _csv(path: Path) -> Array:
    with path.open(encoding="utf-8-sig") as file:
        names = [cell.strip().strip('"') for cell in file.readline().split(",")]
        named = not _are_numbers(names)
        file.seek(0)
        columns = _coordinates(names) if named else None
        return np.loadtxt(file, delimiter=",", skiprows=int(named), usecols=columns, ndmin=2)


def _are_numbers(cells: Sequence[str]) -> bool:
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return False
    return True


def _coordinates(names: Sequence[str]) -> list[int]:
    """Places of the columns x0, x1, ..., or of all: a file of samples is a file of points."""
    indices = [index for index, name in enumerate(names) if re.fullmatch(r"x\d+", name)]
    return indices or list(range(len(names)))


def _npz(path: Path) -> Array:
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array: write it with numpy.savez(path, x=rows)")
        names = archive.files
        if "x" not in names and len(names) != 1:
            raise ValueError(f"it has the arrays {', '.join(names) or 'nothing'}, and none is 'x'")
        array: Array = archive["x" if "x" in names else names[0]]
        return array


def _parquet(path: Path) -> Array:
    table = _pyarrow()[1].read_table(path)
    wanted = _coordinates(table.column_names)
    return np.stack([table.column(index).to_numpy() for index in wanted], axis=1)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise HarnessError(
            "parquet files need pyarrow, which is not installed. "
            "Run: pip install 'cnf-harness[report]'"
        ) from error
    return pyarrow, parquet


def _flat(columns: Mapping[str, Array]) -> dict[str, Array]:
    """One column a number."""
    flat = {}
    for name, array in columns.items():
        if array.ndim == 1:
            flat[name] = array
            continue
        for index, column in enumerate(array.reshape(len(array), -1).T):
            flat[f"{name}{index}"] = column
    return flat


def _refuse(path: Path, message: str, known: tuple[str, ...] = ()) -> NoReturn:
    raise AnswerError([Problem(str(path), message, known=known, found=path.suffix or None)])
