"""Numbers in text files: delimited or by white space, compressed or not, piece by piece."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, cast

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Float
from harness.datasets.formats.npz import TEXT, not_data
from harness.errors import DataError

__all__ = ["blocks", "first_rows", "opened", "reading", "without_repeated_minimum"]

BLOCK = 50_000


@contextlib.contextmanager
def reading(dataset: str, path: Path, what: str) -> Iterator[None]:
    """Turns what can go wrong with the content of a file into a sentence.

    Raises:
        DataError: The file is damaged, cut short, or not `what` it should be.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, LookupError, TypeError, zlib.error) as error:
        other = not_data(path) if path.is_file() else None
        if other and other != TEXT:
            raise DataError(f"dataset '{dataset}': {path.name} is {other}") from error
        # Messages of OSError name folders, which records must not hold.
        lines = str(error).splitlines() if isinstance(error, ValueError) else []
        cause = f" ({lines[0]})" if lines else ""
        raise DataError(
            f"dataset '{dataset}': {path.name} cannot be read as {what}{cause}; it is damaged "
            "or cut short, fetch it again"
        ) from error


def opened(path: Path) -> TextIO:
    """Opens a text file, through gzip if its name ends in `.gz`."""
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="latin-1"))
    return path.open(encoding="latin-1")


def blocks(
    lines: Iterable[str], delimiter: str | None, columns: Sequence[int], fields: int
) -> Iterator[Float]:
    """Yields the numbers of a text, some thousand rows at a time.

    A last line that was cut, with fewer than `fields` fields and no line end, is left out.

    Arguments:
        lines: The lines after any header.
        delimiter: What separates fields; None is white space.
        columns: Fields to take, in this order.
        fields: Fields of a whole line.
    """
    whole = (line for line in lines if line.endswith("\n") or len(line.split(delimiter)) >= fields)
    while block := list(itertools.islice(whole, BLOCK)):
        # A block of empty lines holds no rows, which is worth an error and no warning.
        yield np.loadtxt(block, delimiter=delimiter, usecols=columns, ndmin=2, comments=None)


def first_rows(
    blocks: Iterable[Float], limit: int, keep: Callable[[Float], Float] | None = None
) -> Float:
    """Joins blocks until there are `limit` rows.

    Arguments:
        blocks: Blocks of rows.
        limit: Most rows to return; no block after them is read.
        keep: Selects rows or columns of each block.
    """
    rows: list[Float] = []
    count = 0
    for block in blocks:
        rows.append(block if keep is None else keep(block))
        count += len(rows[-1])
        if count >= limit:
            break
    if not rows:
        raise ValueError("it has no rows")
    return np.concatenate(rows)[:limit]


def without_repeated_minimum(data: Float) -> npt.NDArray[np.bool_]:
    """Features whose smallest value occurs at most 5 times.

    The published code means to find features with values that recur too often; it counts the
    smallest value only, and the published tables are of the features that this leaves.

    Arguments:
        data: [n, D].

    Returns:
        [D].
    """
    counts: npt.NDArray[np.int64] = (data == data.min(axis=0)).sum(axis=0)
    return counts <= 5
