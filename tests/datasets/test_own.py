"""A user's own npz files, and how training reads arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets.arrays import ArrayDataset, epoch_indices
from harness.datasets.base import Batching
from harness.datasets.families.own import NpzFile
from harness.errors import DataError

X = np.random.Generator(np.random.PCG64(0)).normal(size=(40, 3))
GOOD = {"train": X[:20], "val": X[20:30], "test": X[30:]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def loaded(path: Path, **arrays: Any) -> ArrayDataset:  # noqa: ANN401
    np.savez(path, **arrays)
    dataset = NpzFile("mine", path).load()
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
        ({"data": X[:, 0]}, r"'data' has shape \(40,\); expected \[rows, dimensions\]"),
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
        NpzFile("mine", path).load()


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip file", b"\x80\x04N."])
def test_files_that_are_no_npz(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as an npz file"):
        NpzFile("mine", path).load()


def test_a_single_npy_array_under_the_name_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="it is a single array"):
        NpzFile("mine", path).load()


def test_a_file_cut_short(path: Path) -> None:
    np.savez(path, train=X, val=X, test=X)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot be read"):
        NpzFile("mine", path).load()


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
