"""The full tabular benchmarks from miniature files in the original formats."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from data_files import at, table

from harness.datasets.base import Dataset, Split
from harness.datasets.families import tabular as benchmarks
from harness.datasets.families import tabular_splits as tabular
from harness.datasets.formats import uci as uci_files
from harness.datasets.registry import declare
from harness.datasets.sources import public
from harness.errors import DataError

pytestmark = pytest.mark.usefixtures("data")

Float = npt.NDArray[np.float64]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def rng() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(0))


def same(dataset: Dataset, expected: Mapping[Any, Float]) -> None:
    for split in SPLITS:
        np.testing.assert_allclose(dataset.rows(split).x, expected[split], rtol=1e-12, atol=1e-12)


# POWER


@pytest.mark.parametrize("file", ["power/data.npy", "power.npy"])
def test_power_from_the_array_of_maf(file: str, data: Path) -> None:
    rows = rng().normal(size=(300, 8))
    np.save(at(data / file), rows)
    power = table("power", data=300)
    assert power.declare().available
    same(power.load(), tabular.power(rows))
    assert power.load().info.event_shape == (6,)


def household(lines: int) -> tuple[str, Float]:
    """The original text and the rows that MAF makes of it; every seventh line lacks values."""
    text, rows = [], []
    for i, x in enumerate(np.round(rng().uniform(0, 250, size=(lines, 7)), 3)):
        hour, minute = divmod(i % 1440, 60)
        time = f"{1 + i // 1440}/2/2007;{hour:02}:{minute:02}:00"
        if i % 7 == 3:
            text.append(f"{time};?;?;?;?;?;?;")
        else:
            text.append(";".join([time, *(f"{value:.3f}" for value in x)]))
            rows.append([*x, 60 * hour + minute])
    names = ["Date", "Time", "Global_active_power", "Global_reactive_power", "Voltage"]
    names += ["Global_intensity", *(f"Sub_metering_{i}" for i in (1, 2, 3))]
    return "\n".join([";".join(names), *text]) + "\n", np.array(rows)


def test_power_from_the_original_text(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, rows = household(1600)
    (data / "household_power_consumption.txt").write_text(text)
    monkeypatch.setattr("harness.datasets.formats.text_tables.BLOCK", 100)
    power = table("power", data=len(rows))
    same(power.load(), tabular.power(rows))
    parts = uci_files.power("power", [data / "household_power_consumption.txt"], power.rows)
    np.testing.assert_array_equal(parts["data"], rows)


# GAS


def sensors(count: int) -> Float:
    """Readings of 16 sensors of which 8 remain."""
    base = rng().normal(size=(count, 8))
    return np.hstack([base + 0.01 * rng().normal(size=(count, 8))[:, ::-1], base])


def test_gas_from_the_pickled_table_of_maf(data: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rows = sensors(300)
    names = pandas.Index(["Time", "Meth", "Eth", *(f"R{i}" for i in range(16))], dtype=object)
    frame = pandas.DataFrame(np.hstack([rng().normal(size=(300, 3)), rows]), columns=names)
    at(data / "gas/ethylene_CO.pickle").write_bytes(pickle.dumps(frame, 2))
    gas = table("gas", data=300).load()
    same(gas, tabular.gas(rows))
    assert gas.info.event_shape == (8,)


@pytest.mark.parametrize("content", [{"Time": 1}, [1, 2], {"Time": [1], "Meth": [2], "Eth": [3]}])
def test_a_pickle_of_something_else(content: object, data: Path) -> None:
    at(data / "gas/ethylene_CO.pickle").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"ethylene_CO\.pickle is not a table with the columns"):
        table("gas", data=1).load()


def test_gas_resampled_from_the_original_text(data: Path) -> None:
    rows = sensors(400)
    text = "Time (seconds), CO conc (ppm), Ethylene conc (ppm), sensor readings (16 channels)\n"
    for i, x in enumerate(rows):
        text += f"{0.01 * i:.2f}  0.00   0.00 " + "  ".join(f"{value!r}" for value in x.tolist())
        text += " \n"
    (data / "ethylene_CO.txt").write_text(text)
    gas = table("gas-resampled", data=400)
    same(gas.load(), tabular.resampled_gas(rows))
    assert sum(gas.load().sizes().values()) == 100
    # It is not GAS, whose rows cannot be had from this file.
    assert table("gas", data=400).find() is None


# HEPMASS


def events(count: int, repeated: int = 6) -> Float:
    """Label and 27 features, of which the last ones have a smallest value that recurs."""
    rows = rng().normal(size=(count, 28))
    rows[:, 0] = np.arange(count) % 3 != 0
    rows[:, 28 - repeated :] = np.maximum(rows[:, 28 - repeated :], -0.5)
    return rows


def csv(rows: Float, surplus: str = "") -> str:
    """The original text; MAF's test file has one more column at its end."""
    names = ["# label", *(f"f{i}" for i in range(27)), *([surplus] if surplus else [])]
    more = np.full((len(rows), 1), 7.0) if surplus else np.empty((len(rows), 0))
    lines = (",".join(f"{x:.18e}" for x in row) for row in np.hstack([rows, more]).tolist())
    return "\n".join([",".join(names), *lines]) + "\n"


def signal(rows: Float) -> Float:
    return rows[rows[:, 0] == 1, 1:]


@pytest.mark.parametrize("surplus", ["mass", ""])
@pytest.mark.parametrize("folder", ["hepmass/", ""])
@pytest.mark.parametrize("compressed", [False, True])
def test_hepmass_from_the_original_text(
    surplus: str, folder: str, compressed: bool, data: Path
) -> None:
    train, test = events(300), events(120)
    for name, text in (("train", csv(train)), ("test", csv(test, surplus))):
        path = at(data / f"{folder}1000_{name}.csv")
        if compressed:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)
    hepmass = table("hepmass", train=200, test=80).load()
    same(hepmass, tabular.hepmass(signal(train), signal(test)))
    assert hepmass.info.event_shape == (21,)


def test_of_the_original_files_of_hepmass_the_first_rows_count(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = events(3000), events(1200)
    at(data / "hepmass/1000_train.csv").write_text(csv(train) + "never,read\n")
    (data / "hepmass/1000_test.csv").write_text(csv(test, "mass"))
    monkeypatch.setattr("harness.datasets.formats.text_tables.BLOCK", 64)
    hepmass = table("hepmass", train=200, test=80).load()
    same(hepmass, tabular.hepmass(signal(train)[:200], signal(test)[:80]))


def test_a_surplus_name_without_a_column(data: Path) -> None:
    """The published code reads a column of missing values, and drops it just so."""
    train, test = events(300), events(120)
    at(data / "hepmass/1000_train.csv").write_text(csv(train))
    text = csv(test).replace("f26\n", "f26,mass\n", 1)
    (data / "hepmass/1000_test.csv").write_text(text)
    same(
        table("hepmass", train=200, test=80).load(),
        tabular.hepmass(signal(train), signal(test)),
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("f0,f1", "its first column is not the label"),
        ("# label,f1", "its columns are not those of the training file"),
    ],
)
def test_other_columns_of_hepmass(header: str, message: str, data: Path) -> None:
    at(data / "hepmass/1000_train.csv").write_text(csv(events(300)))
    (data / "hepmass/1000_test.csv").write_text(f"{header}\n1,2\n")
    with pytest.raises(DataError, match=message):
        table("hepmass", train=200, test=80).load()


# MINIBOONE


@pytest.mark.parametrize("file", ["MiniBooNE_PID.txt", "miniboone/MiniBooNE_PID.txt"])
def test_miniboone_from_the_original_text(file: str, data: Path) -> None:
    """Signal events first; outliers and features with a recurring smallest value are dropped."""
    rows = rng().normal(size=(260, 50))
    rows[:, 43:] = np.maximum(rows[:, 43:], 0.0)
    rows[[3, 50, 150, 199], 0] = [-999.0, -100.5, -500.0, -101.0]
    rows[60, 0] = -100.0
    text = " 200 60\n" + "".join(
        "  ".join(f"{x: .17e}" for x in row) + "\n" for row in rows.tolist()
    )
    at(data / file).write_text(text)
    expected = np.delete(rows[:200], [3, 50, 150, 199], axis=0)[:, :43]
    miniboone = table("miniboone", data=196).load()
    same(miniboone, tabular.miniboone(expected))
    assert miniboone.info.event_shape == (43,)


# BSDS300


def patches(path: Path, train: int = 30, val: int = 10, test: int = 20) -> dict[str, Any]:
    h5py = pytest.importorskip("h5py")
    arrays = {
        "train": rng().normal(size=(train, 63)).astype("f4"),
        "validation": rng().normal(size=(val, 63)).astype("f4"),
        "test": rng().normal(size=(test, 63)).astype("f4"),
    }
    with h5py.File(at(path), "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return arrays


def test_bsds300_comes_as_it_is(data: Path) -> None:
    arrays = patches(data / "BSDS300/BSDS300.hdf5")
    bsds300 = table("bsds300", train=30, val=10, test=20).load()
    for split, name in zip(SPLITS, arrays, strict=True):
        np.testing.assert_array_equal(bsds300.rows(split).x, arrays[name])


def test_hdf5_that_refers_to_other_files(data: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    bsds300 = table("bsds300", train=30, val=10, test=20)
    path = data / "BSDS300.hdf5"
    patches(tmp_path / "secret.hdf5")
    secret = np.zeros((20, 63), "f4").tobytes()
    (tmp_path / "secret.raw").write_bytes(secret)

    def external_link(file: Any) -> None:  # noqa: ANN401
        file["test"] = h5py.ExternalLink(str(tmp_path / "secret.hdf5"), "test")

    def external_storage(file: Any) -> None:  # noqa: ANN401
        places = [(str(tmp_path / "secret.raw"), 0, len(secret))]
        file.create_dataset("test", (20, 63), "f4", external=places)

    def virtual(file: Any) -> None:  # noqa: ANN401
        layout = h5py.VirtualLayout((20, 63), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.hdf5"), "test", (20, 63))
        file.create_virtual_dataset("test", layout)

    for refer in (external_link, external_storage, virtual):
        path.unlink(missing_ok=True)
        patches(path)
        with h5py.File(path, "a") as file:
            del file["test"]
            refer(file)
        with pytest.raises(DataError, match="'test' is not an array in this file"):
            bsds300.load()


def test_missing_h5py(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patches(data / "BSDS300.hdf5")
    bsds300 = table("bsds300", train=30, val=10, test=20)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(DataError, match=r"pip install 'cnf-harness\[data\]'"):
        bsds300.load()
    monkeypatch.setattr(public, "_is_installed", lambda package: package != "h5py")
    assert (
        bsds300.declare().reason == "h5py is not installed; run: pip install 'cnf-harness[data]'"
    )


# Identity


def test_a_replaced_file_is_derived_anew(data: Path) -> None:
    power = table("power", data=100)
    for seed in (0, 1):
        rows = np.random.Generator(np.random.PCG64(seed)).normal(size=(100, 8))
        np.save(at(data / "power/data.npy"), rows)
        same(power.load(), tabular.power(rows))


def test_the_same_data_have_the_same_digest_in_every_form(data: Path) -> None:
    absent = declare("miniboone")
    (data / "MiniBooNE_PID.txt").write_text("36499 93565\n")
    assert declare("miniboone").digest == absent.digest
    assert absent.reason == "will download 817 MB"
    assert len({declare(table.name).digest for table in benchmarks.TABLES}) == 6
