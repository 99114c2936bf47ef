"""Digits: images, split, dequantisation, logit transform and its volume."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from harness.datasets.base import Batching
from harness.datasets.families import digits
from harness.datasets.registry import declare, load
from harness.errors import DataError
from harness.metrics.bits import bits_per_dim
from harness.metrics.gaussian import gaussian_nll


def test_splits_hold_every_image_once() -> None:
    dataset = load("digits")
    assert dict(dataset.sizes()) == {"train": 1297, "val": 200, "test": 300}
    levels = np.concatenate(
        [np.floor(dataset.to_data(dataset.rows(s).x)) for s in ("train", "val", "test")]
    ).reshape(-1, 64)
    expected = load_digits().data
    assert sorted(map(tuple, levels)) == sorted(map(tuple, expected))
    assert (levels != expected).any()


def test_what_the_dataset_says_of_itself() -> None:
    dataset = load("digits")
    assert dataset.info.event_shape == (1, 8, 8)
    assert dataset.image_shape == (8, 8)
    assert dataset.bits_per_dim


def test_evaluation_rows_are_fixed_and_prefixes_agree() -> None:
    full, part = load("digits").rows("test"), load("digits").rows("test", 17)
    assert part.x.shape == (17, 1, 8, 8)
    np.testing.assert_array_equal(part.x, full.x[:17])
    np.testing.assert_array_equal(part.log_volume, full.log_volume[:17])


def test_training_dequantises_anew_in_every_epoch() -> None:
    dataset = load("digits")
    first, again = (
        dataset.training_batch(0, 3, Batching(100)),
        dataset.training_batch(0, 3, Batching(100)),
    )
    np.testing.assert_array_equal(first.x, again.x)
    # 12 batches of 100 an epoch; find the same images in the next one.
    epochs = [
        np.concatenate(
            [dataset.training_batch(0, step, Batching(100)).x for step in range(e, e + 12)]
        )
        for e in (0, 12)
    ]
    images = [{np.floor(dataset.to_data(x)).tobytes(): x for x in xs} for xs in epochs]
    shared = images[0].keys() & images[1].keys()
    assert len(shared) > 1000
    assert all((images[0][key] != images[1][key]).all() for key in shared)


def test_rows_are_those_of_earlier_versions() -> None:
    """Recorded when rows were flat; results of trials rest on them."""
    dataset = load("digits")
    rows = (
        dataset.training_batch(3, 17, Batching(128)),
        dataset.rows("train"),
        dataset.rows("test"),
    )
    found = [
        hashlib.sha256(part.tobytes()).hexdigest()[:8]
        for r in rows
        for part in (r.x, r.log_volume)
    ]
    assert found == ["c967013b", "e999c37f", "d0581e47", "e1b06662", "294aa181", "07049781"]
    assert declare("digits").digest == "b62acc6b7bd01cf7"


def test_uniform_density_has_the_entropy_of_17_levels() -> None:
    """A density that is uniform over the 17 levels scores log2(17) bits/dim on any image."""
    rows = load("digits").rows("test")
    log_p_model = -rows.log_volume - 64 * np.log(17.0)
    nll = -float(np.mean(log_p_model + rows.log_volume))
    assert bits_per_dim(nll, (64,)) == pytest.approx(np.log2(17.0))


def test_gaussian_baseline() -> None:
    nll, count = gaussian_nll(load("digits"))
    assert count == 300
    assert bits_per_dim(nll, (64,)) == pytest.approx(2.4544, abs=1e-3)


def test_other_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "CHECKSUM", "0" * 64)
    with pytest.raises(DataError, match="install another version of scikit-learn"):
        load("digits")


def test_missing_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        load("digits")
