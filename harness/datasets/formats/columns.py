"""Tables whose columns have names: CSV with or without a heading, and Parquet."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from harness.datasets.formats.npz import TEXT, not_data
from harness.errors import DataError

__all__ = ["Columns", "read_csv", "read_parquet"]

_HEAD_BYTES = 65_536
_DELIMITERS = ",;\t"


class Columns(NamedTuple):
    """A table of numbers.

    Arguments:
        names: One for each column.
        rows: [n, D].
    """

    names: tuple[str, ...]
    rows: npt.NDArray[np.generic]


def read_csv(dataset: str, path: Path) -> Columns:
    """Reads numbers between commas, semicolons or tabs; a first line of words is the heading.

    Raises:
        DataError: A field is no number, or lines differ in their number of fields.
    """

    def refuse(cause: str) -> NoReturn:
        raise DataError(
            f"dataset '{dataset}': {path.name} cannot be read as a table of numbers ({cause})"
        )

    other = not_data(path)
    if other and other != TEXT:
        refuse(f"it is {other}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(_HEAD_BYTES)
            delimiter = max(_DELIMITERS, key=first.count)
            words = next(csv.reader([first], delimiter=delimiter), [])
            heading = not all(map(_is_number, words))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of no rows, which is said below
                rows = np.loadtxt(
                    path,
                    delimiter=delimiter,
                    skiprows=1 if heading else 0,
                    ndmin=2,
                    encoding="utf-8-sig",
                    comments=None,
                    quotechar='"',
                )
    except UnicodeDecodeError:
        refuse("it is not text in UTF-8")
    except (ValueError, csv.Error) as error:
        refuse(str(error).splitlines()[0])
    if len(rows) == 0:
        refuse("it has no rows")
    names = [word.strip() for word in words] if heading else _numbered(rows.shape[1])
    if len(names) != rows.shape[1]:
        refuse(f"its heading names {len(names)} columns, and its rows have {rows.shape[1]}")
    return Columns(tuple(names), rows)


def read_parquet(dataset: str, path: Path) -> Columns:
    """Reads the columns of a Parquet file, all of which must be numbers.

    Raises:
        DataError: pyarrow is not installed, the file is damaged, or a column holds no numbers.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"dataset '{dataset}': {path.name} needs pyarrow, which is not installed. Run: pip "
            "install 'cnf-harness[data]', or write the table as CSV"
        ) from error
    try:
        table = parquet.read_table(path)
    # pyarrow's errors are ValueError, OSError and NotImplementedError by turns.
    except Exception as error:
        cause = type(error).__name__ if isinstance(error, OSError) else str(error).splitlines()[0]
        raise DataError(
            f"dataset '{dataset}': {path.name} cannot be read as Parquet ({cause})"
        ) from error
    columns = []
    for name in table.column_names:
        column = table.column(name)
        kind = column.type
        if column.null_count or not (
            pyarrow.types.is_integer(kind)
            or pyarrow.types.is_floating(kind)
            or pyarrow.types.is_boolean(kind)
        ):
            what = "missing values" if column.null_count else f"{kind}, not numbers"
            raise DataError(f"dataset '{dataset}': {path.name}: column '{name}' holds {what}")
        columns.append(column.to_numpy())
    rows = np.column_stack(columns) if columns else np.empty((0, 0))
    return Columns(tuple(table.column_names), rows)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]
