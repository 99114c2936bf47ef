"""Preprocessing of the tabular sets, on made-up rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from harness.datasets.families import tabular_splits as tabular
from harness.datasets.families.own import parts
from harness.datasets.families.tabular import TABLES
from harness.datasets.folders import sha256
from harness.datasets.sources.public import PublicDataset
from harness.datasets.sources.source import Source
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


def correlated(count: int) -> Float:
    """Sixteen sensors of which 8 remain, the later ones of each group; one never changes."""
    rng = np.random.Generator(np.random.PCG64(1))
    base = rng.normal(size=(count, 7))
    near = [base[:, i % 7] + 0.02 * rng.normal(size=count) for i in range(8)]
    # Correlated with no other, and the opposite of another: both stay.
    return np.column_stack([*near, -base[:, 0], *base.T])


def test_gas_follows_the_published_steps() -> None:
    """The published steps as pandas does them, one column at a time."""
    pandas = pytest.importorskip("pandas")
    data = correlated(500)
    table = pandas.DataFrame(data, columns=[f"R{i}" for i in range(16)])
    dropped = []
    while ((near := table.corr() > 0.98).sum(axis=1) > 1).any():
        dropped.append(next(name for name in table.columns if near[name].sum() > 1))
        table = table.drop(columns=dropped[-1])
    assert dropped == [f"R{i}" for i in range(8)]
    expected = ((table - table.mean()) / table.std()).to_numpy()

    splits = tabular.gas(data)
    assert [splits[key].shape for key in ("train", "val", "test")] == [(405, 8), (45, 8), (50, 8)]
    found = np.concatenate([splits["train"], splits["val"], splits["test"]])
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_gas_is_standardised_by_all_rows_with_the_sample_deviation() -> None:
    splits = tabular.gas(correlated(57))
    x = np.concatenate([splits["train"], splits["val"], splits["test"]])
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose((x**2).sum(axis=0), 56, rtol=1e-12)


def test_gas_drops_the_first_of_a_chain_as_long_as_it_has_a_neighbour() -> None:
    """Of a - b - c, with a and c unrelated, a goes and then b; dropped once, b would stay."""
    rng = np.random.Generator(np.random.PCG64(2))
    a, b = rng.normal(size=(2, 2000))
    chain = np.column_stack([a, a + 0.18 * b, a + 0.36 * b])
    related = np.corrcoef(chain, rowvar=False) > 0.98
    assert related.tolist() == [[True, True, False], [True, True, True], [False, True, True]]
    kept = tabular.gas(chain)["train"]
    expected = chain[:, 2:] - chain[:, 2:].mean(axis=0)
    assert kept.shape[1] == 1
    assert abs(np.corrcoef(kept[:, 0], expected[: len(kept), 0])[0, 1]) == pytest.approx(1.0)


def test_a_sensor_that_never_changes_is_no_neighbour() -> None:
    data = np.column_stack([correlated(50)[:, 8:11], np.full(50, 3.0)])
    with np.errstate(invalid="ignore"):
        assert tabular.gas(data)["train"].shape[1] == 4


def test_gas_resampled_is_a_fixed_quarter_of_the_rows() -> None:
    time = np.arange(1002.0)
    data = np.column_stack([time, np.sin(time)])
    splits = tabular.resampled_gas(data)
    assert [len(splits[key]) for key in ("train", "val", "test")] == [203, 22, 25]
    rows = np.concatenate([splits["train"], splits["val"], splits["test"]])[:, 0]
    assert len(np.unique(rows)) == 250
    # In random order: neighbours are as far apart as any two rows.
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.3
    np.testing.assert_array_equal(splits["test"], tabular.resampled_gas(data)["test"])


def test_hepmass_follows_the_published_steps() -> None:
    """The published steps as pandas and a counter of values do them."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.Generator(np.random.PCG64(3))
    train, test = rng.normal(size=(205, 5)), rng.normal(size=(60, 5))
    train[:6, 1] = train[:, 1].min() - 1.0
    train[:5, 2] = train[:, 2].min() - 1.0
    train[:50, 3] = train[:, 3].max() + 1.0
    frame, test_frame = pandas.DataFrame(train), pandas.DataFrame(test)
    mean, deviation = frame.mean(), frame.std()
    frame, test_frame = (frame - mean) / deviation, (test_frame - mean) / deviation
    counts = [int((frame[i].to_numpy() == min(frame[i])).sum()) for i in range(5)]
    # The most frequent value of the fourth feature occurs 50 times and does not count.
    assert counts == [1, 6, 5, 1, 1]
    kept = [0, 2, 3, 4]

    splits = tabular.hepmass(train, test)
    np.testing.assert_allclose(splits["train"], frame[kept].to_numpy()[:185], rtol=1e-12)
    np.testing.assert_allclose(splits["val"], frame[kept].to_numpy()[185:], rtol=1e-12)
    np.testing.assert_allclose(splits["test"], test_frame[kept].to_numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("prepare", "rows", "expected"),
    [
        (tabular.miniboone, {"data": 2_049_280}, (1_659_917, 184_435, 204_928)),
        (tabular.gas, {"data": 1_052_065}, (852_174, 94_685, 105_206)),
        (tabular.resampled_gas, {"data": 4_208_261}, (852_174, 94_685, 105_206)),
        (tabular.hepmass, {"train": 350_136, "test": 174_987}, (315_123, 35_013, 174_987)),
        (tabular.miniboone, {"data": 36_488}, (29_556, 3_284, 3_648)),
    ],
)
def test_sizes_of_the_full_sets(
    prepare: Callable[..., dict[str, Float]],
    rows: dict[str, int],
    expected: tuple[int, int, int],
) -> None:
    """The splits of the papers follow from the row counts."""
    parts = {part: np.arange(float(count))[:, None] for part, count in rows.items()}
    splits = prepare(**parts)
    assert tuple(len(splits[key]) for key in ("train", "val", "test")) == expected
    assert any(table.rows == rows for table in TABLES)


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublicDataset:
    """A part of known content, a hundred rows of POWER."""
    path = tmp_path / "short.npz"
    np.savez(path, data=household(100))
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    source = Source(("short.npz",), parts, (f"sha256:{sha256(path)}",))
    return PublicDataset(
        name="short",
        summary="a hundred rows",
        sources=(source,),
        rows={"data": 100},
        shape=(6,),
        prepare=tabular.power,
    )


def test_a_part_of_known_content(short: PublicDataset) -> None:
    assert short.declare().available
    assert dict(short.load().sizes()) == {"train": 81, "val": 9, "test": 10}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": household(99)}, r"short\.npz has 99 rows, expected 100; it is incomplete"),
        ({"data": household(100) + 1e-9}, r"short\.npz has SHA-256 .* fetch it again"),
        ({"rows": household(100)}, r"short\.npz has no array 'data'"),
    ],
)
def test_a_damaged_or_other_file_is_refused(
    content: dict[str, Float], message: str, short: PublicDataset, tmp_path: Path
) -> None:
    np.savez(tmp_path / "short.npz", **content)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        short.load()
    assert not list((tmp_path / "cache").rglob("*.npy"))
