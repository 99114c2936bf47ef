"""Encodings of pixels against hand computation, and the dataset that applies them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from harness.datasets import images
from harness.datasets.arrays import epoch_indices
from harness.datasets.base import Batching, piece
from harness.datasets.encodings import Binarised, Encoding, Levels, Logit
from harness.datasets.images import ImageDataset
from harness.metrics.bits import bits_per_dim
from harness.streams.stream import Stream

LOGITS = [Logit(17, 0.05), Logit(256, 1e-6), Logit(256, 1e-5), Logit(256, 0.05)]


def pixels(count: int, levels: int, shape: tuple[int, ...] = (3, 4, 2)) -> npt.NDArray[np.uint8]:
    return Stream(0, "test/pixels").integers(levels, (count, *shape)).astype(np.uint8)


def dataset(encoding: Encoding, levels: int = 256, flip: bool = False) -> ImageDataset:
    all_of_them = pixels(90, levels)
    splits = {"train": all_of_them[:60], "val": all_of_them[60:75], "test": all_of_them[75:]}
    return ImageDataset("made-up", splits, encoding, flip)  # type: ignore[arg-type]


def test_one_pixel_by_hand() -> None:
    """Level 51 and u = 0.2 in the formulas of the released code, released alpha."""
    x = (255 * (51 / 255) + 0.2) / 256
    s = 1e-6 + (1 - 2e-6) * x
    y = math.log(s) - math.log(1 - s)
    log_jacobian = -math.log(s - s * s) + math.log(1 - 2e-6)
    rows = Logit(256, 1e-6).rows(np.full((1, 1, 1, 1), 51, np.uint8), np.full((1, 1, 1, 1), 0.2))
    assert rows.x.item() == pytest.approx(y, rel=1e-13)
    assert rows.log_volume.item() == pytest.approx(log_jacobian - math.log(256), rel=1e-13)


@pytest.mark.parametrize("encoding", LOGITS, ids=str)
def test_log_volume_is_the_jacobian_of_the_transform(encoding: Logit) -> None:
    """Central differences of y(v), v = level + u, over all levels."""
    levels = np.arange(float(encoding.levels))[:, None, None, None] * np.ones((1, 1, 1, 5))
    uniforms = np.broadcast_to([0.02, 0.25, 0.5, 0.75, 0.98], levels.shape)
    step = 1e-5
    ahead, behind = (encoding.rows(levels, uniforms + d).x for d in (step, -step))
    slope = (ahead - behind) / (2 * step)
    rows = encoding.rows(levels, uniforms)
    np.testing.assert_allclose(rows.log_volume, np.log(slope).sum(axis=(1, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("encoding", LOGITS, ids=str)
def test_to_data_inverts_the_logit_and_clips_the_rest(encoding: Logit) -> None:
    levels = np.arange(float(encoding.levels))[:, None, None, None]
    uniforms = np.full(levels.shape, 0.3)
    x = encoding.rows(levels, uniforms).x
    np.testing.assert_allclose(encoding.to_data(x), levels + uniforms, rtol=1e-9)
    ends = encoding.to_data(np.array([-50.0, 50.0]))
    np.testing.assert_array_equal(ends, [0.0, encoding.levels])


def test_bits_per_dim_are_those_of_the_released_code() -> None:
    """-(mean log p(x) / D - ln 256) / ln 2, log p(x) of x in [0, 1] with the logit's Jacobian."""
    encoding, noise = Logit(256, 0.05), Stream(0, "test/noise").uniform((10, 3, 4, 2))
    images = pixels(10, 256)
    rows = encoding.rows(images, noise)
    log_normal = (-0.5 * rows.x**2 - 0.5 * math.log(2 * math.pi)).sum(axis=(1, 2, 3))
    ours = bits_per_dim(-float(np.mean(log_normal + rows.log_volume)), (3, 4, 2))

    x = (images / 255 * 255 + noise) / 256
    s = 0.05 + 0.9 * x
    log_x = log_normal + (np.log(0.9) - np.log(s - s * s)).sum(axis=(1, 2, 3))
    theirs = -(log_x.sum() / x.size - np.log(256)) / np.log(2)
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_a_uniform_density_takes_eight_bits() -> None:
    rows = dataset(Logit(256, 1e-6)).rows("test")
    log_p_model = -rows.log_volume - 24 * math.log(256)
    nll = -float(np.mean(log_p_model + rows.log_volume))
    assert bits_per_dim(nll, (3, 4, 2)) == pytest.approx(8)


def test_levels() -> None:
    grey = Levels(256, "categorical").rows(np.arange(256, dtype=np.uint8), np.empty(0))
    np.testing.assert_array_equal(grey.x, np.arange(256) / 255)
    assert (grey.log_volume == 0).all()
    # What the released code computes in float32, and what is exact, give the levels back.
    np.testing.assert_array_equal(np.round(255 * grey.x), np.arange(256))
    single = grey.x.astype(np.float32) * np.float32(255)
    np.testing.assert_array_equal(single.astype(np.int64), np.arange(256))
    binary = Levels(2, "bernoulli").rows(np.array([0, 1], np.uint8), np.empty(0))
    np.testing.assert_array_equal(binary.x, [0.0, 1.0])


def test_binarised() -> None:
    greys = np.array([0, 45, 90, 225], np.uint8)[:, None] * np.ones((1, 4000), np.uint8)
    rows = Binarised(225.0).rows(greys, Stream(0, "test/noise").uniform(greys.shape))
    assert set(np.unique(rows.x)) == {0.0, 1.0}
    means = rows.x.mean(axis=1)
    assert (means[0], means[3]) == (0, 1)
    # Four standard errors.
    np.testing.assert_allclose(means[1:3], [0.2, 0.4], atol=0.032)
    assert (rows.log_volume == 0).all()


# The dataset


@pytest.mark.parametrize(
    ("encoding", "likelihood", "bits"),
    [
        (Logit(256, 1e-6), "density", True),
        (Levels(256, "categorical"), "categorical", True),
        (Levels(2, "bernoulli"), "bernoulli", False),
        (Binarised(), "bernoulli", False),
    ],
    ids=["logit", "levels", "binary", "binarised"],
)
def test_what_the_dataset_says_of_itself(encoding: Encoding, likelihood: str, bits: bool) -> None:
    made = dataset(encoding, 2 if likelihood == "bernoulli" else 256)
    assert (made.info.likelihood, made.bits_per_dim) == (likelihood, bits)
    assert made.info.event_shape == made.image_shape == (3, 4, 2)
    assert dict(made.sizes()) == {"train": 60, "val": 15, "test": 15}
    assert made.training_batch(0, 0, Batching(7)).x.shape == (7, 3, 4, 2)


def test_a_training_batch_is_a_function_of_seed_and_step() -> None:
    made = dataset(Logit(256, 0.05))
    first = made.training_batch(1, 5, Batching(20))
    made.training_batch(1, 6, Batching(20))
    np.testing.assert_array_equal(made.training_batch(1, 5, Batching(20)).x, first.x)
    assert (made.training_batch(2, 5, Batching(20)).x != first.x).any()
    index = epoch_indices("made-up", 60, 1, 5, Batching(20))
    uniforms = Stream(1, "data/dequantise", 5).uniform((20, 3, 4, 2))
    np.testing.assert_array_equal(
        first.x, Logit(256, 0.05).rows(pixels(90, 256)[index], uniforms).x
    )


def test_noise_is_fresh_for_each_example_and_epoch() -> None:
    """Every image is met again in the next epoch, with other noise in every pixel."""
    made = dataset(Logit(256, 0.05))
    epochs = [
        {np.floor(made.to_data(x)).tobytes(): made.to_data(x) for x in batch}
        for batch in (
            made.training_batch(0, 0, Batching(60)).x,
            made.training_batch(0, 1, Batching(60)).x,
        )
    ]
    assert epochs[0].keys() == epochs[1].keys()
    assert len(epochs[0]) == 60
    assert all((epochs[0][key] != epochs[1][key]).all() for key in epochs[0])
    noise = np.stack([v % 1 for v in epochs[0].values()])
    assert len(np.unique(noise)) == noise.size


def test_half_of_the_images_are_mirrored_in_training_only() -> None:
    original = pixels(90, 256)
    plain, flipping = (
        dataset(Levels(256, "categorical")),
        dataset(Levels(256, "categorical"), flip=True),
    )
    counts = []
    for step in range(100):
        index = epoch_indices("made-up", 60, 0, step, Batching(30))
        batch = np.round(255 * flipping.training_batch(0, step, Batching(30)).x)
        same = (batch == original[index]).all(axis=(1, 2, 3))
        mirrored = (batch == original[index][..., ::-1]).all(axis=(1, 2, 3))
        assert (same | mirrored).all()
        counts.append(int(mirrored.sum()))
    # Of 3000 flips, four standard deviations.
    assert abs(sum(counts) - 1500) < 110
    assert len(set(counts)) > 1
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(flipping.rows(split).x, plain.rows(split).x)


@pytest.mark.parametrize("block", [4, 7, 15, 2000])
@pytest.mark.parametrize("size", [1, 4, 6, 100])
def test_chunks_and_limits_give_the_same_rows(
    block: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "BLOCK", block)
    made = dataset(Logit(256, 0.05))
    whole = made.rows("test")
    chunks = list(made.chunks("test", size, limit=13))
    assert [len(chunk.x) for chunk in chunks] == [
        min(size, 13 - start) for start in range(0, 13, size)
    ]
    np.testing.assert_array_equal(np.concatenate([c.x for c in chunks]), whole.x[:13])
    np.testing.assert_array_equal(
        np.concatenate([c.log_volume for c in chunks]), whole.log_volume[:13]
    )
    np.testing.assert_array_equal(made.rows("test", 9).x, whole.x[:9])
    assert (made.rows("val").x != whole.x).all()


def test_no_two_rows_of_evaluation_share_their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "BLOCK", 7)
    made = dataset(Logit(256, 0.05))
    noise = np.concatenate([made.to_data(made.rows(s).x) % 1 for s in ("train", "val", "test")])
    assert len(np.unique(np.round(noise, 9))) == noise.size


def test_no_rows() -> None:
    made = dataset(Logit(256, 0.05))
    assert made.rows("val", 0).x.shape == (0, 3, 4, 2)
    assert list(made.chunks("val", limit=0)) == []


def test_a_chunk_of_no_stated_size_takes_little_memory() -> None:
    for shape in ((2,), (63,), (1, 28, 28), (3, 32, 32)):
        assert piece(shape) * math.prod(shape) * 8 <= 1 << 25
    # Sums of the Gaussian of tabular data are taken in these pieces, and its digits rest on them.
    assert piece((63,)) == 50_000
