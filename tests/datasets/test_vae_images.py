"""The autoencoders' datasets from miniature files in the original formats."""

from __future__ import annotations

import builtins
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import at
from image_data import (
    Bytes,
    pixels,
    small,
    write_amat,
    write_caltech,
    write_frey,
    write_omniglot,
)

from harness.commands import views
from harness.datasets.base import Batching, Dataset, Split
from harness.datasets.families.image_splits import frey_splits, shrunk
from harness.datasets.families.vae_images import CALTECH, FREYFACES, LOADERS, MNIST_STATIC
from harness.datasets.registry import declare, load, names
from harness.datasets.sources.public import PublicDataset
from harness.errors import DataError
from harness.metrics.gaussian import gaussian_nll
from harness.suites import catalogue

pytestmark = pytest.mark.usefixtures("data")

SPLITS: tuple[Split, ...] = ("train", "val", "test")
FACES = pixels(60, 560)
BINARY = {
    name: pixels(count, 784, levels=2, slot=name)
    for name, count in (("train", 30), ("valid", 10), ("test", 12))
}


def sizes(dataset: Dataset) -> tuple[int, ...]:
    return tuple(dataset.sizes()[split] for split in SPLITS)


# MNIST, static


def test_mnist_static(data: Path) -> None:
    paths = write_amat(data, **BINARY)
    dataset = small(MNIST_STATIC, paths, train=30, val=10, test=12).load()
    assert dataset.info.event_shape == (1, 28, 28)
    assert dataset.info.likelihood == "bernoulli"
    assert not dataset.bits_per_dim
    for split, name in zip(SPLITS, ("train", "valid", "test"), strict=True):
        rows = dataset.rows(split)
        np.testing.assert_array_equal(rows.x.reshape(-1, 784), BINARY[name])
        assert (rows.log_volume == 0).all()
    batch = dataset.training_batch(0, 0, Batching(30)).x
    assert {image.astype(np.uint8).tobytes() for image in batch} == {
        image.tobytes() for image in BINARY["train"]
    }


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda text: text.replace(b"1", b"2", 1), 1),
        (lambda text: text[: 3 * 1568] + text[3 * 1568 :].replace(b" ", b",", 1), 4),
        (lambda text: text[:-1] + b" ", 30),
        (lambda text: text.replace(b"\n", b"\r\n"), 1),
        (lambda text: text[1:], 1),
        (lambda text: b"", 1),
    ],
)
def test_damaged_text(change: Callable[[bytes], bytes], line: int, data: Path) -> None:
    paths = write_amat(data, **BINARY)
    paths[0].write_bytes(change(paths[0].read_bytes()))
    message = rf"binarized_mnist_train\.amat cannot be read .*line {line} is not 784 zeros and"
    with pytest.raises(DataError, match=message):
        small(MNIST_STATIC, paths, train=30, val=10, test=12).load()


def test_another_text_of_the_right_length(data: Path) -> None:
    write_amat(data, **BINARY)
    whole = replace(MNIST_STATIC, rows={"train": 30, "val": 10, "test": 12})
    with pytest.raises(DataError, match=r"binarized_mnist_train\.amat has SHA-256"):
        whole.load()


# Frey Faces


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_freyfaces(protocol: int, data: Path) -> None:
    faces = small(FREYFACES, write_frey(data, FACES, protocol), data=60).load()
    assert sizes(faces) == (48, 6, 6)
    assert (faces.info.event_shape, faces.info.likelihood) == ((1, 28, 20), "categorical")
    assert faces.bits_per_dim
    x = np.concatenate([faces.rows(split).x for split in SPLITS]).reshape(-1, 560)
    # As the released code shuffles.
    theirs = FACES / 255.0
    legacy = np.random.RandomState(123)
    legacy.shuffle(theirs)
    np.testing.assert_array_equal(x, theirs)


def test_freyfaces_from_an_array(data: Path) -> None:
    from_pickle = small(FREYFACES, write_frey(data, FACES), data=60)
    expected = from_pickle.load().rows("test").x
    (data / "freyfaces.pkl").unlink()
    np.savez(data / "freyfaces.npz", data=FACES)
    from_array = small(FREYFACES, [data / "freyfaces.npz"], data=60)
    source = replace(FREYFACES.sources[1], checksums=from_array.sources[0].checksums)
    faces = replace(from_array, sources=(source,)).load()
    np.testing.assert_array_equal(faces.rows("test").x, expected)
    # The file is not taken for one of the user's own, which would be a second dataset of the name.
    assert declare("freyfaces").summary == FREYFACES.summary


def test_splits_of_the_three_seeds() -> None:
    index = np.arange(1965)[:, None] * np.ones((1, 560), int)
    tests = []
    for seed in (123, 321, 231):
        splits = frey_splits(index, seed)
        found = [splits[split][:, 0, 0, 0] for split in SPLITS]
        assert [len(part) for part in found] == [1565, 200, 200]
        np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(1965))
        tests.append(set(found[2]))
    assert all(len(a & b) < 60 for a, b in zip(tests, [*tests[1:], tests[0]], strict=True))
    whole = [LOADERS[name] for name in ("freyfaces", "freyfaces-321", "freyfaces-231")]
    seeds = [each.prepare.keywords["seed"] for each in whole]  # type: ignore[attr-defined]
    assert seeds == [123, 321, 231]


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return builtins.exit, ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([Trap()]), "nothing in it was executed"),
        (pickle.dumps([]), "it is not a list with an array of bytes"),
        (pickle.dumps([[1, 2]]), "it is not a list with an array of bytes"),
        (pickle.dumps([FACES / 255]), "it is not a list with an array of bytes"),
        (pickle.dumps([FACES])[:-3000], r"freyfaces\.pkl is damaged or cut short"),
        (pickle.dumps([FACES[:, :550]]), "holds other data"),
        (b"", r"freyfaces\.pkl is damaged or cut short"),
    ],
)
def test_damaged_faces(content: bytes, message: str, data: Path) -> None:
    path = data / "freyfaces.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        small(FREYFACES, [path], data=60).load()


# Omniglot, from the original images


def test_shrinking_by_area() -> None:
    """An image of 4 x 4 blocks, of which a result pixel covers 3.75 x 3.75."""
    image = np.zeros((105, 105), np.uint8)
    image[:4, :4] = 1
    image[52, 52] = 1
    splits = shrunk(np.stack([image] * 100))
    assert [len(splits[split]) for split in SPLITS] == [81, 9, 10]
    small = splits["train"][0, 0].astype(int)
    assert small[0, 0] == 225
    # A quarter of a pixel of 3.75 reaches over on each side.
    assert (small[0, 1], small[1, 0], small[1, 1]) == (15, 15, 1)
    # The pixel at 52 ends at 53 = 14.13 x 3.75: half of it lies on each side of 52.5.
    assert (small[13, 13], small[13, 14], small[14, 14]) == (4, 4, 4)
    assert small.sum() == 16 * 17
    assert (shrunk(np.ones((100, 105, 105), np.uint8))["test"] == 225).all()


# All of them


def write_short_amat(data: Path) -> None:
    paths = write_amat(data, **BINARY)
    paths[1].write_bytes(paths[1].read_bytes()[:-10])


@pytest.mark.parametrize(
    ("write", "name", "message", "expected"),
    [
        (write_short_amat, "mnist-static", "has 30 rows of 'train', exp", (30, 9, 12)),
        (write_omniglot, "omniglot", "has 81 rows of 'data', expected 24,345", (77, 4, 19)),
        (
            lambda data: write_frey(data, FACES),
            "freyfaces",
            "has 60 rows, expected 1,965",
            (48, 6, 6),
        ),
        (write_caltech, "caltech-silhouettes", "has 20 rows of 'train', ex", (20, 7, 9)),
    ],
)
def test_an_incomplete_file_is_refused_and_runs_as_a_part(
    write: Callable[[Path], object],
    name: str,
    message: str,
    expected: tuple[int, int, int],
    data: Path,
) -> None:
    write(data)
    with pytest.raises(DataError, match=message) as caught:
        load(name)
    assert f"runs only as '{name}-partial'" in str(caught.value)
    declared = declare(f"{name}-partial")
    assert declared.available
    dataset = load(f"{name}-partial", digest=declared.digest)
    assert sizes(dataset) == expected
    assert dataset.info.name == f"{name}-partial"
    assert dataset.info.likelihood == declared.likelihood == declare(name).likelihood


@pytest.mark.parametrize("name", ["caltech-silhouettes-resplit", "omniglot-raw-partial"])
def test_arrays_of_known_content(name: str, data: Path) -> None:
    declared = declare(name)
    assert (
        declared.reason
        == f"the folder that HARNESS_DATA_DIR names has no {name}.npz; put it there"
    )
    content: dict[str, Bytes] = {split: pixels(9, 784) for split in SPLITS}
    np.savez(data / f"{name}.npz", **content, data=pixels(9, 105, 105))  # type: ignore[arg-type]
    assert declare(name).available
    assert declare(name).digest == declared.digest
    with pytest.raises(DataError, match="has 9 rows") as caught:
        load(name)
    assert "runs only as" not in str(caught.value)


def test_declarations(data: Path) -> None:
    whole = {name: declare(name) for name in LOADERS}
    assert len({declared.digest for declared in whole.values()}) == len(whole)
    assert {name for name, declared in whole.items() if declared.likelihood == "categorical"} == {
        *("freyfaces", "freyfaces-321", "freyfaces-231", "freyfaces-partial")
    }
    assert all(declared.likelihood != "density" for declared in whole.values())
    reasons = {name: declared.reason for name, declared in whole.items()}
    assert reasons["mnist-static"] == "will download 110 MB"
    assert reasons["freyfaces-321"] == "will download 4 MB"
    assert reasons["omniglot"] == (
        "the folder that HARNESS_DATA_DIR names has no chardata.mat; put it there (from "
        "datasets/OMNIGLOT of yburda/iwae on GitHub)"
    )
    assert not any(declared.available for declared in whole.values())


def test_missing_scipy(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_caltech(data)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"scipy, which is not installed; run: pip install"):
        load("caltech-silhouettes")
    monkeypatch.setattr("harness.datasets.sources.public._is_installed", lambda package: False)
    reason = declare("caltech-silhouettes").reason
    assert reason == "scipy is not installed; run: pip install 'cnf-harness[data]'"


def test_no_gaussian_is_fitted_to_discrete_pixels(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caltech: PublicDataset = small(CALTECH, write_caltech(data), train=20, val=7, test=9)
    with pytest.raises(DataError, match="discrete pixels"):
        gaussian_nll(caltech.load())
    monkeypatch.setattr("harness.datasets.registry.load", lambda name: caltech.load())
    facts = catalogue.data("caltech-silhouettes")
    assert (facts.gaussian_nll, facts.gaussian_bits_per_dim) == (None, None)
    assert "discrete, for an autoencoder" in views.data_text(facts)


def test_a_folder_without_files_of_ours_is_the_users(data: Path) -> None:
    np.savez(at(data / "freyfaces-mine.npz"), data=FACES)
    assert "freyfaces-mine" in names()
    assert load("freyfaces-mine").info.likelihood == "density"
