"""Equivalence tests: hand-computed bounds, and how often they are wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from harness.comparison.equivalence import combined, effect


def test_bounds_are_those_of_student() -> None:
    # Mean 2, standard deviation 1, n = 3: t(0.95; 2) = 2.919986.
    found = effect([1.0, 2.0, 3.0], 0.1, 0.05)
    half = 2.919986 / math.sqrt(3)
    assert (found.n, found.estimate) == (3, 2.0)
    assert found.low == pytest.approx(2 - half, rel=1e-6)
    assert found.high == pytest.approx(2 + half, rel=1e-6)


@pytest.mark.parametrize(
    ("differences", "margin", "outcome"),
    [
        ([1.0, 1.1, 0.9], 0.5, "worse"),
        ([-1.0, -1.1, -0.9], 0.5, "better"),
        ([0.01, -0.01, 0.0], 0.5, "same"),
        ([1.0, -1.0, 0.2], 0.5, "undecided"),
        # Above zero for certain, above the margin not.
        ([0.5, 0.52, 0.48], 0.5, "undecided"),
        ([0.1], 0.5, "one pair"),
        ([1e-7], 0.5, "same"),
        ([1e-7, -1e-7], 1e-9, "same"),
    ],
)
def test_outcomes(differences: Sequence[float], margin: float, outcome: str) -> None:
    assert effect(differences, margin, 0.05, exact=1e-6).outcome == outcome


def test_the_sum_counts_each_group_the_same() -> None:
    found = combined([[1.0, 3.0], [0.0, 0.0, 0.0, 0.0], [5.0]], 10.0, 0.05)
    assert found is not None
    # The group of one pair bounds nothing; (2 + 0) / 2, variance (2 / 2) / 4, one degree.
    assert (found.n, found.estimate) == (6, 1.0)
    assert found.high == pytest.approx(1 + 6.313752 * 0.5, rel=1e-6)
    assert combined([[1.0]], 1.0, 0.05) is None


def test_equal_pairs_have_no_width() -> None:
    found = combined([[0.0, 0.0], [0.0, 0.0]], 1e-5, 0.05)
    assert found is not None
    assert (found.low, found.high, found.outcome) == (0.0, 0.0, "same")


def test_errors_come_as_often_as_stated() -> None:
    rng = np.random.default_rng(20)
    repetitions, alpha, margin = 4000, 0.05, 0.01

    def rate(outcome: str, true_difference: float) -> float:
        draws = rng.normal(true_difference, 0.004, size=(repetitions, 6))
        return float(
            np.mean([effect(d, margin, alpha).outcome == outcome for d in draws.tolist()])
        )

    # At the margin each error has its nominal rate: 4000 draws know it to 0.0034.
    assert rate("worse", margin) == pytest.approx(alpha, abs=4 * 0.0035)
    assert rate("same", margin) == pytest.approx(alpha, abs=4 * 0.0035)
    assert rate("worse", 0.0) < 0.005
    assert rate("worse", 0.03) > 0.99
    assert rate("same", 0.0) > 0.95
