"""Reads the original files of the UCI repository into the form of the MAF archive's.

The readers have the form of those of `harness.datasets.formats.maf`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.datasets.base import Parts
from harness.datasets.formats.text_tables import (
    blocks,
    first_rows,
    opened,
    reading,
    without_repeated_minimum,
)

__all__ = ["gas", "miniboone", "power"]


def power(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`household_power_consumption.txt`, 2,075,259 minutes of one household.

    Minutes with missing values are left out. The part `data` is [n, 8]: the seven measurements and
    the minute of the day.
    """
    (path,) = paths
    with reading(dataset, path, "the table of POWER"), opened(path) as file:
        if not file.readline().startswith("Date;Time;Global_active_power;"):
            raise ValueError("its first line does not name the columns")

        def complete() -> Iterator[str]:
            for line in file:
                if "?" not in line and ";;" not in line and not line.rstrip().endswith(";"):
                    # date; hour; minute; second; the measurements
                    yield line.replace(":", ";")

        table = first_rows(blocks(complete(), ";", (*range(4, 11), 1, 2), 11), rows["data"])
        minute = 60.0 * table[:, 7] + table[:, 8]
        return {"data": np.column_stack([table[:, :7], minute])}


def miniboone(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`MiniBooNE_PID.txt`, of which the signal events come first.

    As the authors of MAF did it: events whose first feature is below -100 are dropped, then
    features whose smallest value occurs more than 5 times. The part `data` is [36488, 43].
    """
    (path,) = paths
    with reading(dataset, path, "the table of MINIBOONE"), opened(path) as file:
        signal = int(file.readline().split()[0])
        data = first_rows(blocks(file, None, range(50), 50), signal)
        data = data[data[:, 0] >= -100]
        return {"data": data[:, without_repeated_minimum(data)][: rows["data"]]}


def gas(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`ethylene_CO.txt`: the part `data`, [n, 16] readings of the sensors, in time order."""
    (path,) = paths
    with reading(dataset, path, "the table of GAS"), opened(path) as file:
        if not file.readline().lower().startswith("time"):
            raise ValueError("its first line does not name the columns")
        return {"data": first_rows(blocks(file, None, range(3, 19), 19), rows["data"])}
