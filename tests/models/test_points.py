"""Files of points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.errors import AnswerError
from harness.models.points import FORMATS, read_points, write_table

X = np.array([[0.1, -2.0], [3.0, 1e-17], [5.0, 6.0]])


@pytest.mark.parametrize("suffix", FORMATS)
def test_samples_are_points(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    write_table(path, {"x": X, "log_prob": X[:, 0]})
    np.testing.assert_array_equal(read_points(path), X)


@pytest.mark.parametrize("head", ["", "a,b\n", '"x0","x1"\n', "\ufeffa,b\n"])
def test_a_csv_file_with_and_without_names(head: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(head + "0.1,-2\n3,1e-17\n5,6\n", encoding="utf-8")
    np.testing.assert_array_equal(read_points(path), X)


def test_a_single_array_of_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", rows=X)
    np.testing.assert_array_equal(read_points(tmp_path / "x.npz"), X)


MISTAKES = {
    "x.txt": (b"1,2", "known: .csv, .npz, .parquet"),
    "absent.csv": (None, "cannot be read: No such file"),
    "words.csv": (b"1,2\n3,four\n", "as rows of numbers"),
    "ragged.csv": (b"1,2\n3\n", "as rows of numbers"),
    "text.npz": (b"hello", "as rows of numbers"),
    "text.parquet": (b"hello", "as rows of numbers"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_file(name: str, tmp_path: Path) -> None:
    content, message = MISTAKES[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnswerError) as caught:
        read_points(path)
    assert name in str(caught.value)
    assert message in str(caught.value)


def test_arrays_of_which_none_is_x(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=X, b=X)
    with pytest.raises(AnswerError, match="arrays a, b, and none is 'x'"):
        read_points(tmp_path / "x.npz")
