"""How numbers are printed."""

from __future__ import annotations

import pytest
from harness_reports.naming import short_names
from harness_reports.numbers import common, fixed, interval, level_digits, plural, seconds, spread

from harness.statistics import mean_interval, summarize


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1.2345, 2, "1.23"), (-1.5, 1, "−1.5"), (-0.0004, 3, "0.000"), (1234.5, 0, "1234")],
)
def test_fixed(value: float, digits: int, text: str) -> None:
    assert fixed(value, digits) == text


def test_a_single_value_prints_no_spread() -> None:
    one, two = summarize([2.0]), summarize([2.0, 3.0])
    assert one is not None
    assert two is not None
    assert (spread(one, 1), spread(two, 1)) == ("2.0", "2.5 ± 0.7")
    lonely = mean_interval([2.0])
    assert lonely is not None
    assert interval(lonely, 2) == "none (n = 1)"


def test_what_all_seeds_share_is_printed_alone() -> None:
    same, other = summarize([32.0, 32.0]), summarize([35.25, 35.25])
    assert same is not None
    assert other is not None
    assert (common(same, 1), common(other, 1)) == ("32", "35.2")


def test_digits_follow_the_size() -> None:
    assert [level_digits(value) for value in (-2.0, 108.7, 2500.0)] == [3, 2, 1]
    assert [seconds(value) for value in (0.0123, 1.5, 12.0, 300.0)] == [3, 2, 1, 0]
    assert [plural(number, "trial") for number in (1, 2, 1000)] == [
        "1 trial",
        "2 trials",
        "1,000 trials",
    ]


def test_names_are_short_only_if_that_tells_them_apart() -> None:
    tight, loose = "dopri5 rtol=1e-05 atol=1e-05", "dopri5 rtol=0.001 atol=0.001"
    assert short_names("solver", [tight, "rk4_38 steps=8"])[tight] == "dopri5"
    assert short_names("solver", [tight, loose]) == {tight: tight, loose: loose}
    weights = ["rnode.jacobian=0.01+rnode.kinetic=0.01", "none"]
    assert list(short_names("regularizer", weights).values()) == [
        "rnode.jacobian + rnode.kinetic",
        "none",
    ]
