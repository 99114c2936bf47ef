"""Stand-ins: their densities and pictures by hand, and that they say what they are."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from harness.datasets.families.standins import LOADERS, chain_means
from harness.datasets.registry import declare, load
from harness.metrics.gaussian import gaussian_nll

# A change of any of these is another dataset: raise LOADER_VERSION with it.
GOLDEN = {
    "standin-6d": "4ec9e44b0473c985",
    "standin-43d": "421d33e6161d2cb6",
    "standin-8d": "95974b78e9c422e2",
    "standin-21d": "500a849850c06a6e",
    "standin-binary28": "c25a880668e16eff",
}


@pytest.mark.parametrize("name", LOADERS)
def test_golden_rows(name: str) -> None:
    x = load(name).rows("test").x
    assert hashlib.sha256(x.tobytes()).hexdigest()[:16] == GOLDEN[name]


@pytest.mark.parametrize("name", LOADERS)
def test_a_stand_in_says_so(name: str) -> None:
    summary = declare(name).summary
    assert name.startswith("standin-")
    assert "formula" in summary
    assert "never for tables" in summary


@pytest.mark.parametrize(
    ("name", "dimension"),
    [("standin-6d", 6), ("standin-8d", 8), ("standin-21d", 21), ("standin-43d", 43)],
)
def test_tables_follow_their_density_which_no_gaussian_has(name: str, dimension: int) -> None:
    dataset = load(name)
    x = dataset.rows("train").x
    assert x.shape == (20_000, dimension)
    centres = np.abs(x[:, 0]) - 1.5
    residuals = np.column_stack([centres, *(x[:, d] - chain_means(x[:, d - 1])
                                            for d in range(1, dimension))])  # fmt: skip
    np.testing.assert_allclose(residuals.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(residuals.std(axis=0), 0.5, atol=0.015)
    assert np.mean(x[:, 0] > 0) == pytest.approx(0.5, abs=0.02)
    # The modes overlap by 0.3 %: the entropy of the first feature is that of a normal and a coin.
    entropy = dimension * 0.5 * math.log(2 * math.pi * math.e * 0.25) + math.log(2)
    nll, rows = gaussian_nll(dataset)
    assert rows == 4_000
    assert nll > entropy + 0.5


def test_images_are_outlines() -> None:
    x = load("standin-binary28").rows("test").x
    assert x.shape == (400, 1, 28, 28)
    assert set(np.unique(x)) == {0.0, 1.0}
    assert 0.05 < x.mean() < 0.3
    # An outline is hollow: the middle is darker than the rest.
    assert x[:, 0, 12:16, 12:16].mean() < 0.5 * x.mean()
    assert len(np.unique(x.reshape(400, -1), axis=0)) == 400
    train = load("standin-binary28").rows("train").x
    assert not {row.tobytes() for row in x} & {row.tobytes() for row in train}
