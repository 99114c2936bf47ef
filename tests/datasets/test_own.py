"""A user's own files, and how training reads arrays."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets.arrays import ArrayDataset, epoch_indices
from harness.datasets.base import Batching
from harness.datasets.families.own import OwnDataset, OwnFile
from harness.datasets.registry import declare, load
from harness.errors import DataError, InputError
from harness.metrics.gaussian import gaussian_nll
from harness.specs.own_data import OwnData

X = np.random.Generator(np.random.PCG64(0)).normal(size=(40, 3))
GOOD = {"train": X[:20], "val": X[20:30], "test": X[30:]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def loaded(path: Path, **arrays: Any) -> ArrayDataset:  # noqa: ANN401
    np.savez(path, **arrays)
    dataset = OwnFile(OwnData("mine"), path).load()
    assert isinstance(dataset, ArrayDataset)
    return dataset


def test_three_splits_come_as_they_are(path: Path) -> None:
    dataset = loaded(path, **GOOD)
    assert dataset.info.event_shape == (3,)
    assert dict(dataset.sizes()) == {"train": 20, "val": 10, "test": 10}
    np.testing.assert_array_equal(dataset.rows("test").x, X[30:])
    np.testing.assert_array_equal(dataset.rows("val", 4).x, X[20:24])
    np.testing.assert_array_equal(dataset.rows("test").log_volume, np.zeros(10))
    assert not dataset.bits_per_dim


def test_data_is_shuffled_and_split_once_for_all(path: Path) -> None:
    x = np.arange(1234.0)[:, None]
    dataset = loaded(path, data=x, labels=np.array(["a"]))
    assert dict(dataset.sizes()) == {"train": 1000, "val": 111, "test": 123}
    parts = [dataset.rows(split).x[:, 0] for split in ("train", "val", "test")]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), x[:, 0])
    assert abs(parts[0].mean() - 616.5) < 40
    np.testing.assert_array_equal(loaded(path, data=x).rows("test").x[:, 0], parts[2])


def test_numbers_in_a_row_are_data_of_one_dimension(path: Path) -> None:
    dataset = loaded(path, data=X[:, 0])
    assert dataset.info.event_shape == (1,)
    assert dataset.rows("test").x.shape == (4, 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder."""
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


HEADED = "a,b\n" + "".join(f"{x},{y}\n" for x, y in X[:, :2].tolist())


@pytest.mark.parametrize(
    "text", [HEADED, HEADED.partition("\n")[2], HEADED.replace(",", ";"), "\ufeff" + HEADED]
)
def test_tables_of_text_are_split_as_one_array_is(folder: Path, text: str) -> None:
    (folder / "table.csv").write_text(text, encoding="utf-8")
    np.savez(folder / "same.npz", data=X[:, :2])
    np.testing.assert_array_equal(load("table").rows("test").x, load("same").rows("test").x)


def test_parquet_is_read_column_by_column(folder: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    whole = np.arange(40)
    parquet.write_table(pyarrow.table({"a": X[:, 0], "n": whole}), folder / "table.parquet")
    dataset = load("table")
    assert isinstance(dataset, OwnDataset)
    assert dataset.column(1) == "'n'"
    np.testing.assert_array_equal(
        np.sort(np.concatenate([dataset.rows(s).x[:, 1] for s in ("train", "val", "test")])), whole
    )
    parquet.write_table(pyarrow.table({"a": ["x"] * 40}), folder / "table.parquet")
    with pytest.raises(DataError, match="column 'a' holds string, not numbers"):
        load("table")
    (folder / "table.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(DataError, match=r"table\.parquet cannot be read as Parquet"):
        load("table")


def test_parquet_without_its_library_names_the_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (folder / "table.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"pip install 'cnf-harness\[data\]'"):
        load("table")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,x\n", "could not convert string 'x'"),
        ("a,b\n1,2\n3\n", "number of columns changed"),
        ("a,b\n1,\n", "could not convert string ''"),
        ("a,b\n", "it has no rows"),
        ("", "it has no rows"),
        ("a,b,c\n1,2\n", "its heading names 3 columns, and its rows have 2"),
        ("<html>", "it is a web page"),
    ],
)
def test_tables_that_are_none(folder: Path, text: str, message: str) -> None:
    (folder / "table.csv").write_text(text)
    with pytest.raises(DataError, match=rf"table\.csv cannot be read .*{message}"):
        load("table")


def test_two_files_of_one_name_are_a_mistake(folder: Path) -> None:
    (folder / "mine.csv").write_text(HEADED)
    np.savez(folder / "mine.npz", data=X)
    with pytest.raises(DataError, match=r"two datasets are named 'mine': mine\.csv .*mine\.npz"):
        declare("mine")


def test_the_likelihood_of_standardized_rows_is_that_of_the_file(folder: Path) -> None:
    rows = np.column_stack([1e6 + 1e-2 * X[:, 0], 50 * X[:, 1]])
    np.savez(folder / "mine.npz", data=rows)
    plain, dataset = load("mine"), load("mine+standardized")
    train = dataset.rows("train")
    np.testing.assert_allclose(train.x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(train.x.std(0), 1, atol=1e-6)
    np.testing.assert_allclose(dataset.to_data(train.x), plain.rows("train").x, rtol=1e-12)
    spread = plain.rows("train").x.std(0)
    np.testing.assert_allclose(train.log_volume, -np.log(spread).sum())
    # A Gaussian has the same likelihood before and after.
    assert gaussian_nll(dataset)[0] == pytest.approx(gaussian_nll(plain)[0], abs=1e-4)
    first = dataset.training_batch(0, 0, Batching(5))
    np.testing.assert_array_equal(
        first.x, train.x[epoch_indices("mine", len(train.x), 0, 0, Batching(5))]
    )


def test_noise_gives_whole_numbers_a_density_and_is_the_same_every_time(folder: Path) -> None:
    levels = np.arange(200).reshape(100, 2) % 5
    np.savez(folder / "mine.npz", data=levels)
    x = load("mine+dequantized").rows("test").x
    np.testing.assert_array_equal(np.floor(x), load("mine").rows("test").x)
    assert len(np.unique(x)) == x.size
    np.testing.assert_array_equal(load("mine+dequantized").rows("test").x, x)


def test_a_share_of_the_rows_tests(folder: Path) -> None:
    np.savez(folder / "mine.npz", data=X)
    assert load("mine+test0.25").sizes() == {"train": 27, "val": 3, "test": 10}
    np.savez(folder / "mine.npz", train=X, val=X, test=X)
    with pytest.raises(DataError, match="it has splits of its own; remove 'test_fraction'"):
        load("mine+test0.25")


def test_names_say_the_preparation_and_nothing_else(folder: Path) -> None:
    np.savez(folder / "mine.npz", data=X)
    whole = OwnData("mine", True, True, 0.25)
    assert whole.dataset == "mine+standardized+dequantized+test0.25"
    assert OwnData.of(whole.dataset) == whole
    assert declare(whole.dataset).name == whole.dataset
    assert declare(whole.dataset).digest == declare("mine").digest
    for name in (
        "mine+",
        "mine+x",
        "mine+test0.25+standardized",
        "mine+test2",
        "yours+standardized",
    ):
        with pytest.raises(InputError, match="unknown dataset"):
            declare(name)
    with pytest.raises(InputError, match="'moons' is no file of your own"):
        declare("moons+standardized")


def test_a_constant_column_is_not_standardized(folder: Path) -> None:
    (folder / "mine.csv").write_text("a,b\n" + "".join(f"{x},7\n" for x in X[:, 0]))
    with pytest.raises(DataError, match=r"cannot be standardized: constant columns \(b\)"):
        load("mine+standardized")


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, bool])
def test_any_number_type_becomes_float64(path: Path, dtype: Any) -> None:  # noqa: ANN401
    x = np.arange(40).reshape(20, 2).astype(dtype)
    rows = loaded(path, train=x, val=x, test=x).rows("test").x
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows, x.astype(np.float64))


@pytest.mark.parametrize(
    ("shape", "event_shape", "image_shape"),
    [
        ((6,), (6,), None),
        ((3, 2), (1, 3, 2), (3, 2)),
        ((1, 3, 2), (1, 3, 2), (3, 2)),
        ((3, 2, 1), (3, 2, 1), (3, 2, 1)),
    ],
)
def test_pictures_keep_their_shape(
    path: Path,
    shape: tuple[int, ...],
    event_shape: tuple[int, ...],
    image_shape: tuple[int, ...] | None,
) -> None:
    x = np.arange(20 * 6.0).reshape(20, *shape)
    dataset = loaded(path, train=x, val=x, test=x)
    assert dataset.info.event_shape == event_shape
    assert dataset.image_shape == image_shape
    np.testing.assert_array_equal(dataset.rows("val", 1).x.ravel(), np.arange(6.0))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "needs the arrays train, val and test, or data; it has nothing"),
        ({"train": X, "test": X}, "it has test, train"),
        ({"x": X}, "it has x"),
        ({**GOOD, "data": X}, "both 'data' and 'train'"),
        ({"data": np.ones((40, 2))}, "all rows are the same: they have no density"),
        ({"data": np.zeros((40, 0))}, r"'data' has shape \(40, 0\)"),
        ({"data": np.float64(1)}, r"'data' has shape \(\)"),
        ({"data": np.zeros((40, 1, 2, 3, 4))}, r"'data' has shape \(40, 1, 2, 3, 4\)"),
        ({**GOOD, "val": X[:, :2]}, r"rows of 'val' have shape \(2,\), of 'train' \(3,\)"),
        ({**GOOD, "test": X[:0]}, "'test' has no rows"),
        ({"data": X[:9]}, "'val' has no rows|'test' has no rows"),
        ({**GOOD, "val": np.where(X > 2, np.nan, X)}, "'val' holds NaN or infinite"),
        ({**GOOD, "train": np.where(X > 2, np.inf, X)}, "'train' holds NaN or infinite"),
        ({**GOOD, "train": X.astype(str)}, "'train' holds <U32, not numbers"),
        ({**GOOD, "train": X.astype(complex)}, "'train' holds complex128, not numbers"),
    ],
)
def test_what_is_wrong_is_said(path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        loaded(path, **arrays)
    assert "dataset 'mine': mine.npz" in str(caught.value)
    assert str(path.parent) not in str(caught.value)


class Trap:
    """Pickles to a call that fails the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


def test_pickles_are_refused(path: Path) -> None:
    np.savez(path, data=np.array([Trap()], dtype=object))
    with pytest.raises(DataError, match="cannot be read as an npz file of plain arrays"):
        OwnFile(OwnData("mine"), path).load()


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip file", b"\x80\x04N."])
def test_files_that_are_no_npz(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as an npz file"):
        OwnFile(OwnData("mine"), path).load()


def test_a_single_npy_array_under_the_name_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="it is a single array"):
        OwnFile(OwnData("mine"), path).load()


def test_a_file_cut_short(path: Path) -> None:
    np.savez(path, train=X, val=X, test=X)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot be read"):
        OwnFile(OwnData("mine"), path).load()


def test_an_epoch_reads_every_row_at_most_once() -> None:
    seen = np.concatenate([epoch_indices("x", 23, 0, step, Batching(5)) for step in range(4)])
    assert len(seen) == len(set(seen)) == 20
    assert set(seen) < set(range(23))
    second = np.concatenate([epoch_indices("x", 23, 0, step, Batching(5)) for step in range(4, 8)])
    assert len(set(second)) == 20
    assert (second != seen).any()
    assert set(
        np.concatenate([epoch_indices("x", 23, 0, s, Batching(5)) for s in range(40)])
    ) == set(range(23))


def test_order_of_training_is_a_function_of_seed_and_step() -> None:
    first = epoch_indices("x", 100, seed=1, step=7, batching=Batching(10))
    for step in (0, 35, 1000):
        epoch_indices("x", 100, seed=1, step=step, batching=Batching(10))
    np.testing.assert_array_equal(epoch_indices("x", 100, 1, 7, Batching(10)), first)
    assert (epoch_indices("x", 100, 2, 7, Batching(10)) != first).any()
    assert epoch_indices("x", 10, seed=0, step=0, batching=Batching(4)).tolist() == [2, 7, 0, 9]


def test_batch_larger_than_the_training_split() -> None:
    dataset = ArrayDataset("mine", {"train": X[:20], "val": X, "test": X})
    assert dataset.training_batch(0, 3, Batching(20)).x.shape == (20, 3)
    with pytest.raises(DataError, match=r"set training\.batch to at most 20"):
        dataset.training_batch(0, 0, Batching(21))


def test_training_batch_and_chunks_read_the_same_rows() -> None:
    dataset = ArrayDataset("mine", {"train": X, "val": X, "test": X})
    index = epoch_indices("mine", 40, 3, 5, Batching(7))
    np.testing.assert_array_equal(dataset.training_batch(3, 5, Batching(7)).x, X[index])
    chunks = list(dataset.chunks("test", size=16, limit=35))
    assert [len(chunk.x) for chunk in chunks] == [16, 16, 3]
    np.testing.assert_array_equal(np.concatenate([chunk.x for chunk in chunks]), X[:35])
