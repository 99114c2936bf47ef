"""Short batches at the end of an epoch, and stratified batches of the toys."""

from __future__ import annotations

import numpy as np
import pytest

from harness.datasets.arrays import epoch_indices
from harness.datasets.base import Batching
from harness.datasets.registry import load

FREY_FACES = 1565


def test_a_kept_short_batch_ends_the_epoch() -> None:
    keep, drop = Batching(100, "keep"), Batching(100)
    assert (keep.steps(FREY_FACES), drop.steps(FREY_FACES)) == (16, 15)
    assert (keep.steps(200), drop.steps(200)) == (2, 2)
    epoch = [epoch_indices("x", FREY_FACES, 0, step, keep) for step in range(16)]
    assert [len(batch) for batch in epoch] == [100] * 15 + [65]
    assert sorted(np.concatenate(epoch)) == list(range(FREY_FACES))
    again = epoch_indices("x", FREY_FACES, 0, 16, keep)
    assert len(again) == 100
    assert list(again) != list(epoch[0])
    # The full batches are those of an epoch that drops the short one.
    assert list(epoch[14]) == list(epoch_indices("x", FREY_FACES, 0, 14, drop))


@pytest.mark.parametrize(("name", "parts"), [("circles", 2), ("moons", 2), ("rings", 4)])
def test_a_stratified_batch_has_equally_many_points_of_each_component(
    name: str, parts: int
) -> None:
    count = 4000
    x = load(name).training_batch(0, 0, Batching(count, stratified=True)).x
    free = load(name).training_batch(0, 0, Batching(count)).x
    if name == "moons":
        # Without noise the upper moon is above the lower one's middle.
        upper = (x + np.array([1.0, 0.2])) / 2
        assert abs(np.mean(upper[: count // 2, 1]) - 2 / np.pi) < 0.01
        assert abs(np.mean(upper[count // 2 :, 1]) - (0.5 - 2 / np.pi)) < 0.01
        return
    step = 0.75 if name == "rings" else 1.5

    def uneven(points: np.ndarray) -> int:
        nearest = np.rint(np.linalg.norm(points, axis=1) / step).astype(int)
        return max(abs(int((nearest == k + 1).sum()) - count // parts) for k in range(parts))

    # A handful of points is moved to another circle by their noise.
    assert uneven(x) < 10 < uneven(free)


def test_the_second_arm_of_a_stratified_spiral_mirrors_the_first() -> None:
    x = load("2spirals").training_batch(0, 0, Batching(2000, stratified=True)).x
    gaps = x[:1000] + x[1000:]
    # The noise of both arms alone is left: two of standard deviation 0.1.
    assert np.std(gaps) == pytest.approx(0.1 * np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("name", ["swissroll", "8gaussians", "checkerboard"])
def test_toys_that_the_released_code_draws_freely_stay_as_they_are(name: str) -> None:
    dataset = load(name)
    stratified = dataset.training_batch(3, 5, Batching(50, stratified=True)).x
    np.testing.assert_array_equal(stratified, dataset.training_batch(3, 5, Batching(50)).x)
