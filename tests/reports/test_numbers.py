"""How numbers are printed."""

from __future__ import annotations

import pytest
from harness_reports.page.naming import short_names
from harness_reports.page.numbers import (
    Scale,
    common,
    first_digit,
    fixed,
    level_digits,
    seconds,
    short,
    spread,
    table_digits,
    with_width,
)

from harness.statistics import Summary, mean_interval, summarize
from harness.text import counted


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


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([2.0], "2.0 (one pair, no width)"),
        ([1.0, 2.0], "1.5 ± 6.4"),
        ([1.0, 1.0, 1.0], "1.0 ± 0.0"),
    ],
)
def test_two_values_give_an_estimate_with_its_width(values: list[float], text: str) -> None:
    found = mean_interval(values)
    assert found is not None
    assert with_width(found, 1) == text


def test_a_table_has_digits_for_its_spread() -> None:
    wide, narrow = summarize([3.0, 3.1]), summarize([3.0, 3.0004])
    assert wide is not None
    assert narrow is not None
    # Spreads 0.07 and 0.0003: one digit each; 0.014 shows two.
    assert table_digits([wide]) == 2
    assert table_digits([narrow]) == 4
    assert table_digits([Summary(2, 3.0, 0.014, 3.0, 3.0)]) == 3
    assert table_digits([Summary(1, 3.0, None, 3.0, 3.0)]) == 3
    assert [first_digit(value) for value in (0.0, 25.0, 0.1, 0.05, 3e-6)] == [0, 0, 1, 2, 6]


def test_what_all_seeds_share_is_printed_alone() -> None:
    same, other = summarize([32.0, 32.0]), summarize([35.25, 35.25])
    assert same is not None
    assert other is not None
    assert (common(same, 1), common(other, 1)) == ("32", "35.2")


def test_digits_follow_the_size() -> None:
    assert [level_digits(value) for value in (-2.0, 108.7, 2500.0)] == [3, 2, 1]
    assert [seconds(value) for value in (0.0123, 1.5, 12.0, 300.0)] == [3, 2, 1, 0]
    assert [counted(number, "trial") for number in (1, 2, 1000)] == [
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


@pytest.mark.parametrize(
    ("largest", "factor", "text"),
    [
        (0.0, "", "0.00"),
        (0.0243, "", "0.0243"),
        (2.5, "", "2.50"),
        (2.43e-6, "10⁻⁶ ", "2.4"),
        (4.7e-4, "10⁻⁶ ", "470"),
        (3e-11, "10⁻¹² ", "30.0"),
    ],
)
def test_small_numbers_share_a_power_of_ten(largest: float, factor: str, text: str) -> None:
    scale = Scale.of(largest)
    assert (scale.factor, scale.text(largest)) == (factor, text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1e-5, "1e-5"),
        (4e-4, "0.0004"),
        (0.0123, "0.012"),
        (-2.5, "−2.5"),
        (432.1, "432"),
    ],
)
def test_running_text_has_two_digits_at_most(value: float, text: str) -> None:
    assert short(value) == text
