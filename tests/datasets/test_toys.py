"""The 2-D toys against independent samplers that follow the released code's steps."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn import datasets as sklearn_datasets

from harness.datasets.base import Batching
from harness.datasets.families.toys import LOADERS
from harness.datasets.registry import declare, load

Float = npt.NDArray[np.float64]
N = 50_000
FALSE_ALARM = 1e-4

every_toy = pytest.mark.parametrize("name", list(LOADERS))


def swissroll(rng: np.random.Generator) -> Float:
    points = sklearn_datasets.make_swiss_roll(N, noise=1.0, random_state=0)[0]
    return np.asarray(points[:, [0, 2]] / 5)


def eight_gaussians(rng: np.random.Generator) -> Float:
    d = 1 / math.sqrt(2)
    centres = np.array(
        [(1, 0), (-1, 0), (0, 1), (0, -1), (d, d), (d, -d), (-d, d), (-d, -d)], float
    )
    points = 4 * centres[rng.integers(8, size=N)] + 0.5 * rng.standard_normal((N, 2))
    return np.asarray(points / 1.414)


def pinwheel(rng: np.random.Generator) -> Float:
    features = rng.standard_normal((N, 2)) * [0.3, 0.1] + [1.0, 0.0]
    labels = rng.integers(5, size=N)
    angles = np.linspace(0, 2 * np.pi, 5, endpoint=False)[labels] + 0.25 * np.exp(features[:, 0])
    rotations = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)])
    return np.asarray(2 * np.einsum("ti,tij->tj", features, rotations.T.reshape(-1, 2, 2)))


def circles(rng: np.random.Generator) -> Float:
    return np.asarray(
        3 * sklearn_datasets.make_circles(N, factor=0.5, noise=0.08, random_state=0)[0]
    )


def moons(rng: np.random.Generator) -> Float:
    points = sklearn_datasets.make_moons(N, noise=0.1, random_state=0)[0]
    return np.asarray(points * 2 + np.array([-1, -0.2]))


def two_spirals(rng: np.random.Generator) -> Float:
    n = np.sqrt(rng.random((N // 2, 1))) * 540 * (2 * np.pi) / 360
    x = -np.cos(n) * n + rng.random((N // 2, 1)) * 0.5
    y = np.sin(n) * n + rng.random((N // 2, 1)) * 0.5
    arm = np.hstack([x, y])
    return np.vstack([arm, -arm]) / 3 + 0.1 * rng.standard_normal((N, 2))


def checkerboard(rng: np.random.Generator) -> Float:
    x = rng.random(N) * 4 - 2
    y = rng.random(N) - rng.integers(0, 2, N) * 2 + np.floor(x) % 2
    return 2 * np.stack([x, y], axis=1)


def rings(rng: np.random.Generator) -> Float:
    angle = rng.random(N) * 2 * np.pi
    radius = rng.choice([1.0, 0.75, 0.5, 0.25], N)
    points = 3 * np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points + 0.08 * rng.standard_normal((N, 2))


REFERENCES: dict[str, Callable[[np.random.Generator], Float]] = {
    "swissroll": swissroll,
    "8gaussians": eight_gaussians,
    "pinwheel": pinwheel,
    "circles": circles,
    "moons": moons,
    "2spirals": two_spirals,
    "checkerboard": checkerboard,
    "rings": rings,
}
PROJECTIONS: dict[str, Callable[[Float], Float]] = {
    "x": lambda p: p[:, 0],
    "y": lambda p: p[:, 1],
    "diagonal": lambda p: p[:, 0] + p[:, 1],
    "radius": lambda p: np.hypot(p[:, 0], p[:, 1]),
    "spiral": lambda p: np.hypot(p[:, 0], p[:, 1]) + np.arctan2(p[:, 1], p[:, 0]),
}


def test_every_toy_has_a_reference() -> None:
    assert list(REFERENCES) == list(LOADERS)


@every_toy
@pytest.mark.parametrize("projection", list(PROJECTIONS))
def test_same_distribution_as_the_reference(name: str, projection: str) -> None:
    """Kolmogorov-Smirnov with a false-alarm rate of 1e-4 a test, on fixed seeds."""
    project = PROJECTIONS[projection]
    ours = load(name).training_batch(seed=0, step=0, batching=Batching(N)).x
    reference = REFERENCES[name](np.random.default_rng(0))
    assert stats.ks_2samp(project(ours), project(reference)).pvalue > FALSE_ALARM


# Points come from exactly rounded operations only, so these hold on every machine.
GOLDEN = {
    "swissroll": "eb5e79a58792e769",
    "8gaussians": "4b315a76ac5a61bb",
    "pinwheel": "aa429d5f60a0b9c6",
    "circles": "31fcdc324f8bf954",
    "moons": "b3a734279d2cff51",
    "2spirals": "f0ffbf85f501f9fd",
    "checkerboard": "a1bfdc57c6970aa9",
    "rings": "e4ebe5d229dd8361",
}


@every_toy
def test_golden_points(name: str) -> None:
    points = load(name).training_batch(seed=5, step=3, batching=Batching(1000)).x
    assert hashlib.sha256(points.tobytes()).hexdigest()[:16] == GOLDEN[name]


@every_toy
def test_training_never_repeats_and_depends_on_seed_and_step_only(name: str) -> None:
    dataset = load(name)
    batch = dataset.training_batch(seed=1, step=2, batching=Batching(100)).x
    assert batch.shape == (100, 2)
    assert batch.dtype == np.float64
    np.testing.assert_array_equal(batch, load(name).training_batch(1, 2, Batching(100)).x)
    np.testing.assert_array_equal(batch[:10], dataset.training_batch(1, 2, Batching(10)).x)
    for seed, step in ((2, 2), (1, 3)):
        other = dataset.training_batch(seed, step, Batching(100)).x
        assert not np.isin(other[:, 0], batch[:, 0]).any()


@every_toy
def test_fixed_splits(name: str) -> None:
    dataset = load(name)
    assert dict(dataset.sizes()) == {"train": 0, "val": 10_000, "test": 10_000}
    val, test = dataset.rows("val"), dataset.rows("test")
    assert val.x.shape == test.x.shape == (10_000, 2)
    assert not np.isin(val.x[:, 0], test.x[:, 0]).any()
    np.testing.assert_array_equal(dataset.rows("test", 7).x, test.x[:7])
    np.testing.assert_array_equal(test.log_volume, np.zeros(10_000))
    assert dataset.rows("train").x.shape == (100_000, 2)
    np.testing.assert_array_equal(
        np.concatenate([chunk.x for chunk in dataset.chunks("test", size=3000)]), test.x
    )


def test_checkerboard_stays_on_its_squares() -> None:
    x = load("checkerboard").rows("train").x
    column, row = np.floor(x / 2).astype(int).T
    assert np.abs(x).max() <= 4
    np.testing.assert_array_equal((column + row) % 2, 0)
    counts = np.bincount((column + 2) * 4 + row + 2)
    assert stats.chisquare(counts[counts > 0]).pvalue > FALSE_ALARM
    assert (counts > 0).sum() == 8


def test_toys_are_declared_without_a_file() -> None:
    digests = {name: declare(name).digest for name in LOADERS}
    assert len(set(digests.values())) == 8
    assert all(declare(name).available for name in LOADERS)
    assert digests["moons"] == "09d92dd64d16d461"
