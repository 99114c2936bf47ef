"""Verdicts: the truth table, the tolerance, and what is never compared."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from harness_reports.published.library import published
from harness_reports.published.values import PublishedValue
from harness_reports.published.verdict import Verdict, difference_of_metrics, tolerance, verdict
from hypothesis import given
from hypothesis import strategies as st
from published_records import target

from harness.statistics import Summary, summarize

T2 = 4.302652729911275
"""97.5 % quantile of Student's t with 2 degrees of freedom."""


def summary(mean: float, sd: float | None = None, n: int = 1) -> Summary:
    return Summary(n, mean, sd, mean, mean)


def value(dataset: str = "power", metric: str = "test_nll") -> PublishedValue:
    found = target(dataset, metric)
    assert found is not None
    return found


POWER = value()  # -0.46 ± 0.01 over 3 runs
CIFAR10 = value("cifar10", "test_bits_per_dim")  # 3.40, no spread


def test_no_trials() -> None:
    assert str(verdict(None, POWER)) == "not run"
    assert verdict(None, POWER, dataset="power-partial").kind == "not run"


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"dataset": "power-partial"}, "a part of power"),
        ({"dataset": "power-rederived"}, "another dataset than power"),
        ({"metric": "val_nll"}, "val_nll and test_nll are different quantities"),
        ({"incomparable": "another architecture"}, "another architecture"),
    ],
)
def test_not_comparable_says_why_even_if_the_numbers_agree(
    keywords: dict[str, str], reason: str
) -> None:
    found = verdict(summary(-0.46), POWER, **keywords)
    assert found.kind == "not comparable"
    assert reason in found.reason
    assert (found.difference, found.tolerance, found.better) == (None, None, None)
    assert str(found) == f"not comparable: {found.reason}"


@pytest.mark.parametrize("mark", ["M", "M+"])
def test_values_from_memory_judge_nothing(mark: str) -> None:
    remembered = next(v for v in published(unprintable=True) if v.mark == mark)
    assert verdict(summary(remembered.value), remembered).kind == "not comparable"


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ("emd", "emd_3d_reading_approximate", "3-D reading"),
        ("min_emd", "min_emd_3d_reading_approximate", "3-D reading"),
        ("emd_3d_reading", "emd_3d_reading_approximate", "approximate routine"),
        ("cov_l2_prior", "cov_l2_recon", "reconstructions"),
        ("mmd_l2_prior", "mmd_l2_recon", "reconstructions"),
        ("mmd_kernel", "min_cd", "no maximum mean discrepancy"),
        ("cd", "min_cd", "different quantities"),
    ],
)
def test_metrics_of_similar_names_do_not_compare(ours: str, theirs: str, words: str) -> None:
    assert words in (difference_of_metrics(ours, theirs) or "")
    assert difference_of_metrics(theirs, theirs) is None


@pytest.mark.parametrize(
    ("mean", "kind", "better"),
    [
        (3.40, "reproduced", None),
        (3.404, "reproduced", False),
        (3.395, "reproduced", True),
        (3.41, "undecided", False),
        (3.30, "undecided", True),
    ],
)
def test_without_any_spread_a_difference_beyond_the_rounding_is_undecided(
    mean: float, kind: str, better: bool | None
) -> None:
    found = verdict(summary(mean), CIFAR10)
    assert (found.kind, found.better) == (kind, better)
    assert found.tolerance == pytest.approx(0.005)
    assert "rounding" in found.reason


def test_both_spreads_give_the_interval_of_welch() -> None:
    # Equal spreads of 3 and 3: 4 degrees of freedom, whose 97.5 % quantile is 2.776.
    bound, _ = tolerance(summary(-0.5, 0.01, 3), POWER)
    assert bound == pytest.approx(2.7764451 * 0.01 * math.sqrt(2 / 3) + 0.005)
    assert verdict(summary(-0.46 + 0.027, 0.01, 3), POWER).kind == "reproduced"
    assert verdict(summary(-0.46 + 0.029, 0.01, 3), POWER).kind == "differs"


def test_our_spread_alone_asks_where_one_run_would_fall() -> None:
    bound, basis = tolerance(summary(3.4, 0.02, 3), CIFAR10)
    assert bound == pytest.approx(T2 * 0.02 * math.sqrt(1 / 3 + 1) + 0.005)
    assert "none over runs is published" in basis


def test_the_published_spread_alone() -> None:
    bound, basis = tolerance(summary(-0.46), POWER)
    assert bound == pytest.approx(T2 * 0.01 * math.sqrt(1 + 1 / 3) + 0.005)
    assert "one seed" in basis


def test_a_spread_over_test_points_forgives_nothing() -> None:
    gaussian = value("gas", "gaussian_nll")  # 3.58 ± 0.75 over test points
    assert gaussian.spread == 0.75
    assert tolerance(summary(3.58), gaussian)[0] == pytest.approx(0.005)
    assert verdict(summary(3.7), gaussian).kind == "differs"


def test_unknown_number_of_runs_counts_as_two() -> None:
    unknown, two = replace(POWER, runs=None), replace(POWER, runs=2)
    for ours in (summary(-0.46), summary(-0.46, 0.02, 3)):
        assert tolerance(ours, unknown) == tolerance(ours, two)


def test_seeds_that_agree_to_the_last_bit_leave_the_rounding() -> None:
    assert tolerance(summary(3.4, 0.0, 3), CIFAR10)[0] == pytest.approx(0.005)
    exact = replace(POWER, spread=0.0)
    assert tolerance(summary(-0.46, 0.0, 3), exact)[0] == pytest.approx(0.005)


def test_direction_decides_what_is_better() -> None:
    coverage = value("omniglot", "cov_l2_recon")  # 99 %, higher is better
    assert verdict(summary(100.0), coverage).better is True
    assert verdict(summary(90.0), coverage).better is False
    assert verdict(summary(-0.9), POWER).better is True
    neutral = replace(POWER, direction="neither")
    assert verdict(summary(-0.9), neutral).better is None


def test_texts_say_size_side_and_tolerance() -> None:
    better, worse = summary(3.30, 0.0, 2), summary(3.50, 0.0, 2)
    assert str(verdict(better, CIFAR10)) == "differs by −0.100 (better), beyond 0.005"
    assert str(verdict(worse, CIFAR10)) == "differs by +0.100 (worse), beyond 0.005"
    assert str(verdict(summary(3.50), CIFAR10)) == (
        "undecided: +0.100, and no spread over runs is known"
    )
    assert str(verdict(summary(3.402), CIFAR10)) == "reproduced: +0.002, within 0.005"


def test_truth_table() -> None:
    """All of: trials or none, same dataset or part, same metric or not, near or far."""
    for run, whole, same, near in itertools.product((True, False), repeat=4):
        ours = summary(-0.46 if near else 5.0, 0.01, 3) if run else None
        found: Verdict = verdict(
            ours,
            POWER,
            dataset="power" if whole else "power-partial",
            metric="test_nll" if same else "train_nll",
        )
        expected = (
            "not run"
            if not run
            else "not comparable"
            if not (whole and same)
            else "reproduced"
            if near
            else "differs"
        )
        assert found.kind == expected


@given(
    values=st.lists(st.floats(-5, 5), min_size=1, max_size=5),
    shift=st.floats(-3, 3),
)
def test_verdict_follows_from_difference_and_tolerance(values: list[float], shift: float) -> None:
    ours = summarize([v + shift for v in values])
    assert ours is not None
    found = verdict(ours, POWER)
    assert found.difference == pytest.approx(ours.mean + 0.46)
    assert found.tolerance is not None
    assert found.tolerance >= POWER.half_digit
    assert (found.kind == "reproduced") == (
        abs(found.difference or 0) <= found.tolerance * (1 + 1e-9) + 1e-12
    )
