"""Omniglot and Caltech 101 Silhouettes from miniature MATLAB files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_data import GREYS, column_major, pixels, small, write_caltech, write_mat, write_omniglot

from harness.datasets.base import Batching, Split
from harness.datasets.families.image_splits import omniglot_splits
from harness.datasets.families.vae_images import CALTECH, OMNIGLOT
from harness.datasets.registry import load
from harness.errors import DataError
from harness.streams.stream import Stream

pytestmark = pytest.mark.usefixtures("data")

SPLITS: tuple[Split, ...] = ("train", "val", "test")


# Omniglot


def test_omniglot(data: Path) -> None:
    dataset = small(OMNIGLOT, write_omniglot(data), data=81, testdata=19).load()
    assert [dataset.sizes()[split] for split in SPLITS] == [77, 4, 19]
    assert (dataset.info.event_shape, dataset.info.likelihood) == ((1, 28, 28), "bernoulli")
    for split in SPLITS:
        assert set(np.unique(dataset.rows(split).x)) == {0.0, 1.0}


def test_omniglot_is_upright_and_every_training_image_is_used(data: Path) -> None:
    """Images that are binary already stay as they are, wherever they land."""
    upright = pixels(100, 28, 28, levels=2)
    paths = write_omniglot(data, column_major(upright).T.astype(np.float64))
    dataset = small(OMNIGLOT, paths, data=81, testdata=19).load()
    found = [dataset.rows(split).x.astype(np.uint8)[:, 0] for split in SPLITS]
    np.testing.assert_array_equal(found[2], upright[81:])
    assert sorted(x.tobytes() for part in found[:2] for x in part) == sorted(
        x.tobytes() for x in upright[:81]
    )
    assert (np.concatenate(found[:2]) != upright[:81]).any()


def test_omniglot_reads_images_as_the_released_code_does(data: Path) -> None:
    """`reshape((-1, 28, 28)).reshape((-1, 784), order='F')` of the transposed array."""
    binary = np.round(GREYS)
    theirs = binary[:, 81:].T.reshape((-1, 28, 28)).reshape((-1, 784), order="F")
    dataset = small(OMNIGLOT, write_omniglot(data, binary), data=81, testdata=19).load()
    np.testing.assert_array_equal(dataset.rows("test").x.reshape(-1, 784), theirs)


def test_training_is_binarised_anew_and_evaluation_once(data: Path) -> None:
    dataset = small(OMNIGLOT, write_omniglot(data), data=81, testdata=19).load()
    batches = [dataset.training_batch(0, step, Batching(77)).x for step in range(200)]
    assert (batches[0] != batches[1]).any()
    np.testing.assert_array_equal(batches[3], dataset.training_batch(0, 3, Batching(77)).x)
    # An epoch has all images, so the mean over epochs is the mean grey. Four standard errors.
    mean_grey = omniglot_splits(
        *(x.T.reshape(-1, 1, 28, 28) for x in (GREYS[:, :81], GREYS[:, 81:]))
    )["train"].mean()
    count = np.size(batches)
    assert np.mean(batches) == pytest.approx(mean_grey, abs=4 * 0.5 / count**0.5)
    for split in ("val", "test"):
        np.testing.assert_array_equal(dataset.rows(split).x, dataset.rows(split).x)


def test_evaluation_images_are_the_draws_of_numpy() -> None:
    """Of a pixel that is neither 0 nor 1, the binomial of today takes one uniform, as then."""
    greys = GREYS[:, 5:].T.reshape(-1, 1, 28, 28)
    splits = omniglot_splits(greys[:81], greys[81:])
    legacy = np.random.RandomState(777)
    order = Stream(0, "data/split").permutation(81)
    np.testing.assert_array_equal(splits["val"], legacy.binomial(1, greys[:81][order[77:]]))
    np.testing.assert_array_equal(splits["test"], legacy.binomial(1, greys[81:]))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": GREYS}, "has no table of numbers 'testdata'"),
        ({"data": GREYS * 1.01, "testdata": GREYS}, r"its pixels are not in \[0, 1\]"),
        ({"data": GREYS - 0.01, "testdata": GREYS}, r"its pixels are not in \[0, 1\]"),
        ({"data": GREYS, "testdata": GREYS * np.nan}, r"its pixels are not in \[0, 1\]"),
        ({"data": GREYS[:783], "testdata": GREYS}, "cannot be read as the MATLAB file of Omni"),
        ({"data": "text", "testdata": GREYS}, "has no table of numbers 'data'"),
        ({"data": {"a": 1}, "testdata": GREYS}, "has no table of numbers 'data'"),
    ],
)
def test_other_matlab_files(arrays: Mapping[str, Any], message: str, data: Path) -> None:
    write_mat(data / "chardata.mat", arrays)
    with pytest.raises(DataError, match=message) as caught:
        load("omniglot")
    assert str(data) not in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("keep", [0, 1, 100, 127, 128, 140, 1000, 100_000])
def test_damaged_matlab_files(keep: int, compressed: bool, data: Path) -> None:
    (path,) = write_mat(
        data / "chardata.mat", {"data": GREYS, "testdata": GREYS}, compressed=compressed
    )
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"chardata\.mat (cannot be read|has no table)"):
        load("omniglot")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"no matlab file", "cannot be read as a MATLAB file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "is a file of MATLAB 7.3, .* '-v7'"),
        (b"MATLAB 7.3 MAT-file".ljust(600), "is a file of MATLAB 7.3, .* '-v7'"),
    ],
)
def test_files_that_are_not_of_matlab(content: bytes, cause: str, data: Path) -> None:
    (data / "chardata.mat").write_bytes(content)
    with pytest.raises(DataError, match=rf"chardata\.mat {cause}"):
        load("omniglot")


def test_the_published_file_is_known_by_its_git_id(data: Path) -> None:
    write_omniglot(data)
    with pytest.raises(DataError, match=r"chardata\.mat has the git id .* expected 016a3536ffe5"):
        replace(OMNIGLOT, rows={"data": 81, "testdata": 19}).load()


# Caltech 101 Silhouettes


def test_caltech_in_its_own_splits(data: Path) -> None:
    caltech = small(CALTECH, write_caltech(data), train=20, val=7, test=9).load()
    assert (caltech.info.event_shape, caltech.info.likelihood) == ((1, 28, 28), "bernoulli")
    for split, count in zip(SPLITS, (20, 7, 9), strict=True):
        expected = pixels(count, 28, 28, levels=2, slot=split)
        np.testing.assert_array_equal(caltech.rows(split).x[:, 0], expected)


def test_caltech_of_other_pixels(data: Path) -> None:
    write_caltech(data, val_data=np.full((7, 784), 0.5))
    with pytest.raises(DataError, match="its pixels are not 0 and 1"):
        load("caltech-silhouettes")
