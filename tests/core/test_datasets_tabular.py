"""Preprocessing of the tabular sets, on made-up rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from harness.datasets import declare, load, tabular
from harness.datasets.files import sha256
from harness.errors import DataError

Float = npt.NDArray[np.float64]
COLUMNS = ("power", "reactive", "voltage", "intensity", "sub1", "sub2", "sub3", "minute")


def household(count: int) -> Float:
    rng = np.random.Generator(np.random.PCG64(0))
    scale = np.array([3.0, 1.0, 10.0, 20.0, 2.0, 5.0, 7.0, 400.0])
    rows: Float = rng.normal(size=(count, 8)) * scale + np.arange(8) * 100.0
    return rows


def test_power_follows_the_published_steps() -> None:
    """The same steps on named columns: the order of the draws is what makes the data the same."""
    data = household(1000)
    legacy = np.random.RandomState(42)
    order = np.arange(1000)
    legacy.shuffle(order)
    named = dict(zip(COLUMNS, data[order].T, strict=True))
    voltage = named["voltage"] + 0.01 * legacy.rand(1000)
    power = named["power"] + 0.001 * legacy.rand(1000)
    sub = np.stack([named[f"sub{i}"] for i in (1, 2, 3)], axis=1) + legacy.rand(1000, 3)
    expected = np.column_stack([power, voltage, sub, named["minute"]])
    expected = (expected - expected[:900].mean(axis=0)) / expected[:900].std(axis=0)

    before = data.copy()
    splits = tabular.power(data)
    np.testing.assert_array_equal(data, before)
    assert [len(splits[key]) for key in ("train", "val", "test")] == [810, 90, 100]
    found = np.concatenate([splits["train"], splits["val"], splits["test"]])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_the_last_rows_test_and_the_rest_standardises() -> None:
    data = household(487)
    splits = tabular.miniboone(data)
    assert [len(splits[key]) for key in ("train", "val", "test")] == [396, 43, 48]
    seen = np.concatenate([splits["train"], splits["val"]])
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(seen.std(axis=0), 1, rtol=1e-12)
    raw = data[439:] - data[:439].mean(axis=0)
    np.testing.assert_allclose(splits["test"] * data[:439].std(axis=0), raw, atol=1e-10)


def test_sizes_of_the_full_sets() -> None:
    """The splits of the papers follow from the row counts."""
    for rows, expected in (
        (2_049_280, (1_659_917, 184_435, 204_928)),
        (36_488, (29_556, 3_284, 3_648)),
    ):
        x = np.arange(float(rows))[:, None]
        splits = tabular.miniboone(x)
        assert tuple(len(splits[key]) for key in ("train", "val", "test")) == expected


def test_a_damaged_or_other_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    np.savez(tmp_path / "power-partial.npz", data=household(10))
    assert declare("power-partial").available
    with pytest.raises(DataError, match=r"power-partial\.npz has SHA-256 .* fetch it again"):
        load("power-partial")


def test_a_file_of_another_shape_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "short.npz"
    np.savez(path, data=household(10))
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    checksum = sha256(path)
    table = tabular.Tabular("short", checksum, (11, 8), tabular.power, "ten rows")
    with pytest.raises(DataError, match=r"shape \(10, 8\), expected \(11, 8\)"):
        table.load()
    good = tabular.Tabular("short", checksum, (10, 8), tabular.power, "ten rows").load()
    assert dict(good.sizes()) == {"train": 9, "val": 0, "test": 1}
