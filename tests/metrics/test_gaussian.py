"""The closed-form Gaussian and bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from harness.datasets.arrays import ArrayDataset
from harness.datasets.base import Batching, Dataset, Rows, Split
from harness.datasets.registry import load
from harness.errors import DataError
from harness.interface import DataInfo
from harness.metrics.bits import bits_per_dim
from harness.metrics.gaussian import fit, gaussian_nll, remembered_gaussian_nll

Float = npt.NDArray[np.float64]
RNG = np.random.Generator(np.random.PCG64(1))
MIX = RNG.normal(size=(4, 4))
X: Float = RNG.normal(size=(5000, 4)) @ MIX + np.array([1.0, -2.0, 3.0, 1e3])


def rows(x: Float) -> Rows:
    return Rows(x, np.zeros(len(x)))


def test_fit_is_the_maximum_likelihood_estimate_and_the_density_is_scipys() -> None:
    gaussian = fit([rows(X)])
    covariance = np.cov(X.T, bias=True)
    np.testing.assert_allclose(gaussian.mean, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(gaussian.factor @ gaussian.factor.T, covariance, rtol=1e-9)
    expected = stats.multivariate_normal(X.mean(axis=0), covariance).logpdf(X[:50])
    np.testing.assert_allclose(gaussian.log_prob(X[:50]), expected, rtol=1e-9)
    assert gaussian.ridge == 0


def test_chunks_change_nothing() -> None:
    whole = fit([rows(X)])
    pieces = fit(rows(X[start : start + 7]) for start in range(0, len(X), 7))
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(pieces.factor, whole.factor, rtol=1e-9, atol=1e-12)


def test_large_offsets_cost_no_digits() -> None:
    near, far = fit([rows(X - X.mean(axis=0))]), fit([rows(X - X.mean(axis=0) + 2.0**26)])
    np.testing.assert_allclose(far.factor, near.factor, rtol=1e-6)


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(np.hstack([X, X[:, :1]]), id="a feature twice"),
        pytest.param(np.hstack([X, np.ones((len(X), 1))]), id="a constant feature"),
        pytest.param(X[:3], id="fewer rows than dimensions"),
    ],
)
def test_degenerate_rows_get_a_ridge_and_a_finite_score(x: Float) -> None:
    gaussian = fit([rows(x)])
    assert 0 < gaussian.ridge <= 1e-6
    assert np.isfinite(gaussian.log_prob(x)).all()


def test_no_rows_and_no_variance_are_errors() -> None:
    with pytest.raises(DataError, match="no rows"):
        fit([])
    with pytest.raises(DataError, match="not positive definite"):
        fit([rows(np.ones((10, 2)))])


class Scaled(Dataset):
    """Data y = 3 x whose model sees x: one coordinate gives log_volume -ln 3."""

    def __init__(self, x: Float) -> None:
        self.info = DataInfo("scaled", x.shape[1:])
        self._rows = Rows(x, np.full(len(x), -math.log(3.0)))

    def sizes(self) -> Mapping[Split, int]:
        count = len(self._rows.x)
        return {"train": count, "val": count, "test": count}

    def training_batch(self, seed: int, step: int, batching: Batching) -> Rows:
        return self.rows("train", batching.size)

    def rows(self, split: Split, limit: int | None = None) -> Rows:
        return Rows(self._rows.x[:limit], self._rows.log_volume[:limit])


def test_score_includes_log_volume_and_respects_the_limit() -> None:
    x = X[:, :1]
    plain = ArrayDataset("x", {"train": x, "val": x, "test": x})
    nll, count = gaussian_nll(plain)
    assert count == len(x)
    assert nll == pytest.approx(0.5 * math.log(2 * math.pi * math.e * x.var()), rel=1e-9)
    assert gaussian_nll(Scaled(x))[0] == pytest.approx(nll + math.log(3.0), rel=1e-12)
    limited, count = gaussian_nll(plain, 10)
    assert count == 10
    assert limited == pytest.approx(-np.mean(fit([rows(x)]).log_prob(x[:10])), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "nll"), [("checkerboard", 4.4936), ("8gaussians", 4.2530), ("moons", 3.2837)]
)
def test_baseline_of_the_toys(name: str, nll: float) -> None:
    value, count = gaussian_nll(load(name))
    assert count == 10_000
    assert value == pytest.approx(nll, abs=1e-3)


def test_bits_per_dim_by_hand() -> None:
    assert bits_per_dim(math.log(2.0) * 12, (2, 3)) == pytest.approx(2.0)
    assert bits_per_dim(0.0, (64,)) == 0


def test_a_fit_is_remembered_by_data_and_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    data = ArrayDataset("x", {"train": X, "val": X, "test": X})
    expected = gaussian_nll(data), gaussian_nll(data, 10)
    found = [remembered_gaussian_nll(data, "0", limit) for limit in (None, 10)]
    assert tuple(found) == expected
    other = ArrayDataset("x", {"train": 2 * X, "val": X, "test": X})
    # The digest stands for the rows, which are not looked at.
    assert remembered_gaussian_nll(other, "0") == expected[0]
    assert remembered_gaussian_nll(other, "1") == gaussian_nll(other)
    for note in (tmp_path / "cache" / "gaussian").iterdir():
        note.write_bytes(b"torn")
    assert remembered_gaussian_nll(data, "0") == expected[0]
    (tmp_path / "file").touch()
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "file"))
    assert remembered_gaussian_nll(data, "0") == expected[0]


def test_columns_without_a_density_are_named() -> None:
    x = np.random.Generator(np.random.PCG64(0)).normal(size=(200, 2))
    constant = np.concatenate([x, np.ones((200, 1))], axis=1)
    twice = np.concatenate([x, 2 * x[:, :1]], axis=1)
    found = [fit([Rows(rows, np.zeros(200))]).dependent for rows in (x, constant, twice, 1e-9 * x)]
    assert found == [[], [2], [2], []]
