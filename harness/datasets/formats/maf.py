"""Reads the files of the MAF archive (Papamakarios et al., arXiv:1705.07057) as they are.

Each reader takes the name of the dataset, for messages, the paths of its files, and the most rows
to read of each part. It returns the parts, {name: rows}, of which a preprocessing of
`harness.datasets.families.tabular_splits` makes the splits; an incomplete file gives the rows that
it has. A file that is damaged or holds something else is a `DataError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.datasets.base import Array, Float, Parts
from harness.datasets.formats.pickle import read_pickle
from harness.datasets.formats.text_tables import blocks, first_rows, opened, reading
from harness.errors import DataError

__all__ = ["bsds300", "gas", "hepmass", "npy"]


def npy(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`data.npy` of POWER and MINIBOONE: the part `data`, [n, D] float64."""
    (path,) = paths
    with reading(dataset, path, "an npy file of a table of numbers"), path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        if len(shape) != 2 or fortran or dtype.kind not in "iuf":
            raise ValueError(f"shape {shape}, type {dtype}")
        # numpy's own reader would refuse a file that is cut short without counting its rows.
        flat = np.fromfile(file, dtype, min(shape[0], rows["data"]) * shape[1])
        count = len(flat) // shape[1]
        return {"data": flat[: count * shape[1]].reshape(count, -1).astype(np.float64)}


def gas(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`ethylene_CO.pickle`: the part `data`, [n, 16] readings of the sensors.

    Concentrations and time are left out. The rows are a random quarter of those of the original
    file, drawn once by the authors of MAF (`sample(frac=0.25)` without a seed).
    """
    (path,) = paths
    columns = read_pickle(dataset, path)
    if not isinstance(columns, dict) or not {"Meth", "Eth", "Time"} < set(columns):
        raise DataError(
            f"dataset '{dataset}': {path.name} is not a table with the columns Time, Meth, Eth "
            "and those of the sensors"
        )
    sensors = [x for name, x in columns.items() if name not in ("Meth", "Eth", "Time")]
    with reading(dataset, path, "a table of numbers"):
        return {"data": np.column_stack(sensors).astype(np.float64)[: rows["data"]]}


def hepmass(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`1000_train.csv` and `1000_test.csv`: the parts `train` and `test`, signal rows [., 27].

    MAF uses the first tenth of the original files; of those, reading stops after as many signal
    rows. The test file names one column more than the other, at its end, which MAF drops.
    """
    train_path, test_path = paths
    with reading(dataset, train_path, "a table of HEPMASS"):
        names, train = _signal(train_path, None, rows["train"])
    with reading(dataset, test_path, "a table of HEPMASS"):
        test_names, test = _signal(test_path, len(names), rows["test"])
        if test_names != names:
            raise ValueError("its columns are not those of the training file")
    return {"train": train, "test": test}


def _signal(path: Path, width: int | None, limit: int) -> tuple[list[str], Float]:
    with opened(path) as file:
        names = [name.strip() for name in file.readline().split(",")][:width]
        if len(names) < 2 or names[0] not in ("# label", "label"):
            raise ValueError("its first column is not the label")
        columns = range(len(names))

        def signal(block: Float) -> Float:
            return block[block[:, 0] == 1, 1:]

        return names, first_rows(blocks(file, ",", columns, len(names)), limit, signal)


def bsds300(dataset: str, paths: Sequence[Path], rows: Mapping[str, int]) -> Parts:
    """`BSDS300.hdf5`: the splits as they are, [., 63] in the type of the file."""
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise DataError(
            f"dataset '{dataset}' is read with h5py, which is not installed; "
            "run: pip install 'cnf-harness[data]'"
        ) from error
    (path,) = paths
    parts: dict[str, Array] = {}
    with reading(dataset, path, "the HDF5 file of BSDS300"), h5py.File(path, "r") as file:
        for part, name in (("train", "train"), ("val", "validation"), ("test", "test")):
            link = file.get(name, getlink=True)
            array = file[name] if isinstance(link, h5py.HardLink) else None
            # HDF5 can refer to any other file of the machine; this data does not.
            if not isinstance(array, h5py.Dataset) or array.external or array.is_virtual:
                raise ValueError(f"'{name}' is not an array in this file")
            if len(array.shape) != 2 or array.dtype.kind != "f":
                raise ValueError(f"'{name}' has shape {array.shape}, type {array.dtype}")
            parts[part] = array[: rows[part]]
    return parts
