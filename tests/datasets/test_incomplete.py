"""Incomplete and damaged files of the tabular benchmarks: refused, or run as a part."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from data_files import at, table

from harness.datasets.registry import declare, load
from harness.datasets.sources.partial import Partial
from harness.errors import DataError

pytestmark = pytest.mark.usefixtures("data")

Float = npt.NDArray[np.float64]


def rows_of(count: int, width: int) -> Float:
    rows: Float = np.random.Generator(np.random.PCG64(0)).normal(size=(count, width))
    return rows


def write_power(data: Path) -> None:
    np.save(at(data / "power/data.npy"), rows_of(1029, 8))


def write_cut_power(data: Path) -> None:
    write_power(data)
    path = data / "power/data.npy"
    path.write_bytes(path.read_bytes()[:-100])


HOUSEHOLD = (
    "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
    "Sub_metering_1;Sub_metering_2;Sub_metering_3\n"
)


def write_power_text(data: Path) -> None:
    values = (";".join(f"{x:.3f}" for x in row) for row in rows_of(1029, 7))
    lines = (f"16/12/2006;{i % 24}:{i % 60}:00;{row}\n" for i, row in enumerate(values))
    text = HOUSEHOLD + "".join(lines)
    (data / "household_power_consumption.txt").write_text(text[:-20])


def csv_of_hepmass(count: int, surplus: int = 0) -> str:
    names = ["# label", *(f"f{i}" for i in range(27)), *["mass"] * surplus]
    rows = np.hstack([np.ones((count, 1)), rows_of(count, 27 + surplus)])
    return "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows.tolist())]) + "\n"


def write_hepmass(data: Path) -> None:
    at(data / "hepmass/1000_train.csv").write_text(csv_of_hepmass(60))
    (data / "hepmass/1000_test.csv").write_text(csv_of_hepmass(40, surplus=1))


def write_miniboone(data: Path) -> None:
    np.savetxt(data / "MiniBooNE_PID.txt", rows_of(70, 50), header="36499 93565", comments="")


def write_bsds300(data: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(data / "BSDS300.hdf5", "w") as file:
        for name, count in (("train", 30), ("validation", 10), ("test", 20)):
            file[name] = rows_of(count, 63)


@pytest.mark.parametrize(
    ("write", "name", "message", "sizes"),
    [
        (write_power, "power", "power/data.npy has 1,029 rows, expected 2,049,280", 1029),
        (write_cut_power, "power", "power/data.npy has 1,027 rows, expected 2,049,280", 1027),
        (
            write_power_text,
            "power",
            "household_power_consumption.txt has 1,028 rows, expected 2,049,280",
            1028,
        ),
        (
            write_hepmass,
            "hepmass",
            "1000_test.csv has 60 rows of 'train', expected 350,136",
            100,
        ),
        (write_miniboone, "miniboone", "MiniBooNE_PID.txt has 70 rows, expected 36,488", 70),
        (write_bsds300, "bsds300", "BSDS300.hdf5 has 30 rows of 'train', expected 1,000,000", 60),
    ],
)
def test_an_incomplete_file_is_refused_and_runs_as_a_part(
    write: Callable[[Path], None], name: str, message: str, sizes: int, data: Path
) -> None:
    """Through the registry, with the row counts of the papers."""
    write(data)
    with pytest.raises(DataError) as caught:
        load(name)
    assert message in str(caught.value)
    assert f"runs only as '{name}-partial'" in str(caught.value)
    part = declare(f"{name}-partial")
    assert part.available
    assert part.digest != declare(name).digest
    dataset = load(f"{name}-partial", digest=part.digest)
    assert dataset.info.name == f"{name}-partial"
    assert sum(dataset.sizes().values()) == sizes


def test_a_part_follows_its_file(data: Path) -> None:
    np.save(at(data / "power/data.npy"), rows_of(100, 8))
    power = Partial(table("power", data=2000))
    first = power.declare()
    assert power.load().sizes()["train"] == 81
    np.save(data / "power/data.npy", rows_of(200, 8))
    assert power.declare().digest != first.digest
    assert power.load().sizes()["train"] == 162
    (data / "power/data.npy").unlink()
    assert (
        power.declare().reason
        == "the folder that HARNESS_DATA_DIR names has no power/data.npy; put it there"
    )
    with pytest.raises(DataError, match=r"has no power/data\.npy"):
        power.load()


def test_a_part_without_a_row_for_each_split(data: Path) -> None:
    np.save(at(data / "power/data.npy"), rows_of(9, 8))
    with pytest.raises(DataError, match=r"power/data\.npy is too short: 'val' has no rows"):
        Partial(table("power", data=2000)).load()


def test_the_pinned_part_comes_first(data: Path) -> None:
    pinned = declare("power-partial")
    write_power(data)
    assert declare("power-partial").digest != pinned.digest
    np.savez(data / "power-partial.npz", data=np.zeros((48_419, 8)))
    assert declare("power-partial").digest == pinned.digest
    with pytest.raises(DataError, match=r"power-partial\.npz has SHA-256"):
        load("power-partial")


def test_other_content_of_the_right_length(data: Path) -> None:
    rows = rows_of(100, 8)
    np.save(at(data / "power/data.npy"), np.where(rows > 2, np.nan, rows))
    with pytest.raises(DataError, match=r"power/data\.npy: 'train' has NaN or infinite values"):
        table("power", data=100).load()
    np.save(data / "power/data.npy", np.hstack([rows[:, :7], np.ones((100, 1))]))
    with pytest.raises(DataError, match="'train' has NaN or infinite values"):
        table("power", data=100).load()
    np.save(data / "power/data.npy", rows_of(100, 9))
    with pytest.raises(DataError, match=r"holds other data, of shape \(100, 9\)"):
        table("power", data=100).load()
    np.save(at(data / "miniboone/data.npy"), rows_of(100, 50))
    with pytest.raises(DataError, match="leaves 50 dimensions, expected 43"):
        table("miniboone", data=100).load()


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("power", {"power/data.npy": b""}, "cannot be read as an npy file"),
        ("power", {"power/data.npy": b"\x93NUMPY\x01\x00\x76"}, "cannot be read as an npy file"),
        ("power", {"power.npy": pickle.dumps([1])}, "cannot be read as an npy file"),
        ("power", {"household_power_consumption.txt": b"x;y\n1;2\n"}, "does not name the columns"),
        (
            "power",
            {"household_power_consumption.txt": HOUSEHOLD.encode() + b"1;2:3:4;a;b\n"},
            "cannot be read as the table of POWER",
        ),
        ("gas", {"ethylene_CO.pickle": b"\x80\x02"}, "damaged or cut short"),
        ("gas-resampled", {"ethylene_CO.txt": b"\x00"}, "does not name the columns"),
        (
            "hepmass",
            {"1000_train.csv": b"# label,f0\n1,2\n", "1000_test.csv": b"# label,f0\n"},
            "it has no rows",
        ),
        (
            "hepmass",
            {
                "1000_train.csv.gz": gzip.compress(csv_of_hepmass(100).encode())[:-500],
                "1000_test.csv.gz": b"",
            },
            r"1000_train\.csv\.gz cannot be read as a table of HEPMASS",
        ),
        ("miniboone", {"MiniBooNE_PID.txt": b""}, "cannot be read as the table of MINIBOONE"),
        ("miniboone", {"MiniBooNE_PID.txt": b"3 4\n1 2 3\n"}, "table of MINIBOONE"),
        ("bsds300", {"BSDS300.hdf5": b"\x89HDF\r\n\x1a\n"}, "cannot be read as the HDF5 file"),
    ],
)
def test_damaged_files(name: str, files: dict[str, bytes], message: str, data: Path) -> None:
    for file, content in files.items():
        at(data / file).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(name)
    assert str(data) not in str(caught.value)
    assert not list((data.parent / "cache").rglob("*.npy"))


def test_arrays_of_numpy_that_are_no_table(data: Path) -> None:
    power = table("power", data=100)
    for array in (np.zeros(100), np.zeros((8, 100)).T, np.full((100, 8), "x")):
        np.save(at(data / "power/data.npy"), array)
        with pytest.raises(DataError, match="cannot be read as an npy file of a table"):
            power.load()
    np.save(data / "power/data.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read as an npy file of a table"):
        power.load()
