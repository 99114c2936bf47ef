"""The statistics of tables and verdicts against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics import (
    Interval,
    equivalence_test,
    holm,
    mean_interval,
    median_interval,
    paired_ratio,
    summarize,
)


def values(n: int, seed: int, shift: float = 0.0) -> list[float]:
    return [float(v) for v in np.random.default_rng(seed).normal(3.0 + shift, 0.5, n)]


def differences(a: list[float], b: list[float], level: float = 0.95) -> Interval:
    found = mean_interval([x - y for x, y in zip(a, b, strict=True)], level)
    assert found is not None
    return found


def test_summary_by_hand() -> None:
    summary = summarize([1.0, 2.0, 4.0, 5.0])
    assert summary is not None
    assert (summary.n, summary.mean, summary.low, summary.high) == (4, 3.0, 1.0, 5.0)
    assert summary.sd == pytest.approx((10 / 3) ** 0.5)


def test_one_value_has_no_spread_and_no_interval() -> None:
    summary, interval = summarize([2.5]), mean_interval([2.5])
    assert summary is not None
    assert interval is not None
    assert summary.sd is None
    assert (interval.estimate, interval.low, interval.high) == (2.5, None, None)
    assert not interval.excludes(0.0)


def test_nothing_in_nothing_out() -> None:
    assert summarize([]) is None
    assert mean_interval([]) is None
    assert paired_ratio([], []) is None


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_interval_is_the_t_interval_of_scipy(n: int, level: float) -> None:
    a, b = values(n, 1), values(n, 2, 0.3)
    expected = stats.ttest_rel(a, b).confidence_interval(level)
    found = differences(a, b, level)
    assert found.n == n
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


@pytest.mark.parametrize("n", [2, 5])
def test_interval_excludes_zero_exactly_when_the_t_test_rejects(n: int) -> None:
    verdicts = set()
    for seed in range(40):
        a, b = values(n, seed), values(n, seed + 100, 0.8)
        interval = differences(a, b)
        assert interval.excludes(0.0) == (stats.ttest_rel(a, b).pvalue < 0.05)
        verdicts.add(interval.excludes(0.0))
    assert verdicts == {True, False}


def test_ratio_is_geometric() -> None:
    ratio = paired_ratio([2.0, 8.0], [1.0, 1.0])
    assert ratio is not None
    assert ratio.estimate == pytest.approx(4.0)
    inverse = paired_ratio([1.0, 1.0], [2.0, 8.0])
    assert inverse is not None
    assert ratio.high is not None
    assert inverse.low == pytest.approx(1 / ratio.high)


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        summarize([1.0, float("nan")])
    with pytest.raises(ValueError, match="level"):
        mean_interval([1.0, 2.0], level=95)
    with pytest.raises(ValueError, match="shorter"):
        paired_ratio([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (8, 1), (9, 2), (20, 6), (25, 8), (100, 40)])
def test_the_interval_of_a_median_is_that_of_the_sign_test(n: int, rank: int) -> None:
    """Ranks as printed in tables of the sign test at 5 %, two-sided."""
    shuffled = [float(value) for value in np.random.default_rng(n).permutation(n) + 1]
    found = median_interval(shuffled)
    assert found is not None
    assert (found.low, found.high) == (rank, n + 1 - rank)
    assert found.estimate == (n + 1) / 2
    assert stats.binom.cdf(rank - 1, n, 0.5) <= 0.025 < stats.binom.cdf(rank, n, 0.5)


def test_five_values_have_no_interval_of_their_median() -> None:
    found = median_interval([5.0, 1.0, 2.0, 4.0, 3.0])
    assert found == Interval(5, 3.0, None, None, 0.95)
    assert median_interval([]) is None


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("margin", [0.05, 0.5, 2.0])
def test_equivalence_is_two_one_sided_tests_of_scipy(n: int, margin: float) -> None:
    sample = [value - 3.0 for value in values(n, 1)]
    found = equivalence_test(sample, margin)
    assert found is not None
    below = stats.ttest_1samp(sample, margin, alternative="less").pvalue
    above = stats.ttest_1samp(sample, -margin, alternative="greater").pvalue
    assert found.within == pytest.approx(max(below, above), rel=1e-9)
    assert found.beyond == pytest.approx(min(1.0, 2 * (1 - max(below, above))), rel=1e-6)


def test_values_that_agree_exactly_leave_no_doubt() -> None:
    inside, outside = equivalence_test([0.1, 0.1], 0.2), equivalence_test([-0.3, -0.3], 0.2)
    assert inside is not None
    assert outside is not None
    assert (inside.within, inside.beyond) == (0.0, 1.0)
    assert (outside.within, outside.beyond) == (1.0, 0.0)
    assert equivalence_test([0.1], 0.2) is None
    with pytest.raises(ValueError, match="a margin is positive"):
        equivalence_test([0.1, 0.2], 0.0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.001]) == pytest.approx([0.9, 0.002])
    assert holm([]) == []
    assert holm([0.7, 0.8]) == [1.0, 1.0]
