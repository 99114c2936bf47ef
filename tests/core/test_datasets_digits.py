"""Digits: images, split, dequantisation, logit transform and its volume."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from harness.datasets import digits, load
from harness.errors import DataError
from harness.metrics.bits import bits_per_dim
from harness.metrics.gaussian import gaussian_nll


def test_splits_hold_every_image_once() -> None:
    dataset = load("digits")
    assert dict(dataset.sizes()) == {"train": 1297, "val": 200, "test": 300}
    levels = np.concatenate(
        [np.floor(dataset.to_data(dataset.rows(s).x)) for s in ("train", "val", "test")]
    )
    expected = load_digits().data
    assert sorted(map(tuple, levels)) == sorted(map(tuple, expected))
    assert (levels != expected).any()


def test_what_the_dataset_says_of_itself() -> None:
    dataset = load("digits")
    assert dataset.info.event_shape == (64,)
    assert dataset.image_shape == (8, 8)
    assert dataset.bits_per_dim


def test_evaluation_rows_are_fixed_and_prefixes_agree() -> None:
    full, part = load("digits").rows("test"), load("digits").rows("test", 17)
    assert part.x.shape == (17, 64)
    np.testing.assert_array_equal(part.x, full.x[:17])
    np.testing.assert_array_equal(part.log_volume, full.log_volume[:17])


def test_training_dequantises_anew_in_every_epoch() -> None:
    dataset = load("digits")
    first, again = dataset.training_batch(0, 3, 100), dataset.training_batch(0, 3, 100)
    np.testing.assert_array_equal(first.x, again.x)
    # 12 batches of 100 an epoch; find the same images in the next one.
    epochs = [
        np.concatenate([dataset.training_batch(0, step, 100).x for step in range(e, e + 12)])
        for e in (0, 12)
    ]
    images = [{tuple(np.floor(dataset.to_data(x[None]))[0]): x for x in xs} for xs in epochs]
    shared = images[0].keys() & images[1].keys()
    assert len(shared) > 1000
    assert all((images[0][key] != images[1][key]).all() for key in shared)


def test_log_volume_is_the_jacobian_of_the_transform() -> None:
    """Central differences of y(v), v = level + u in 0 .. 17, over all levels."""
    levels = np.arange(17.0)[:, None] * np.ones((1, 5))
    uniforms = np.tile([0.01, 0.25, 0.5, 0.75, 0.99], (17, 1))
    step = 1e-6
    slope = (
        digits.logit_rows(levels, uniforms + step).x - digits.logit_rows(levels, uniforms - step).x
    ) / (2 * step)
    rows = digits.logit_rows(levels, uniforms)
    np.testing.assert_allclose(rows.log_volume, np.log(slope).sum(axis=1), atol=1e-7)


def test_to_data_inverts_the_transform_and_clips_the_rest() -> None:
    levels = np.arange(17.0)[:, None]
    uniforms = np.full((17, 1), 0.3)
    dataset = load("digits")
    x = digits.logit_rows(levels, uniforms).x
    np.testing.assert_allclose(dataset.to_data(x), levels + uniforms, rtol=1e-12)
    np.testing.assert_array_equal(dataset.to_data(np.array([-50.0, 50.0])), [0.0, 17.0])


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
