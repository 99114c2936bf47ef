"""How numbers are printed: fixed digits for each quantity, and a real minus sign."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from harness.statistics import Interval, Summary

__all__ = [
    "Scale",
    *("bytes_mib", "common", "count", "first_digit", "fixed", "level_digits", "short"),
    *("seconds", "spread", "table_digits", "with_width"),
]


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def fixed(value: float, digits: int) -> str:
    """A number with `digits` decimals; minus zero is zero."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def level_digits(value: float) -> int:
    """Decimals of a log-likelihood or of bits/dim: 3, fewer for large values."""
    size = abs(value)
    return 3 if size < 100 else 2 if size < 1000 else 1


def first_digit(value: float) -> int:
    """Decimals down to the first significant digit of `value`; 0 for numbers from 1 on."""
    return 0 if value == 0 else max(0, math.ceil(-math.log10(abs(value))))


def table_digits(summaries: Iterable[Summary]) -> int:
    """Decimals for one column of log-likelihoods: the median spread shows one digit, or two."""
    members = list(summaries)
    spreads = [summary.sd for summary in members if summary.sd]
    if not spreads:
        return min((level_digits(summary.mean) for summary in members), default=3)
    middle = statistics.median(spreads)
    # A spread of 1 is rounded by up to a half of itself.
    leading_one = middle * 10 ** first_digit(middle) < 1.95
    return min(5, first_digit(middle) + (1 if leading_one and middle < 1 else 0))


def short(value: float) -> str:
    """Two significant digits at most, as `0.0123`, `4e-5` or `3.5`, for running text."""
    if value == 0:
        return "0"
    text = f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    mantissa, e, power = text.partition("e")
    return f"{mantissa}e{int(power)}" if e else text.replace("-", "−")


def spread(summary: Summary, digits: int) -> str:
    """`mean ± standard deviation`; a single value prints no spread, for it has none."""
    text = fixed(summary.mean, digits)
    return text if summary.sd is None else f"{text} ± {fixed(summary.sd, digits)}"


def common(summary: Summary, digits: int) -> str:
    """As `spread`, but a value that all seeds share is printed alone, whole numbers as such."""
    if summary.low != summary.high:
        return spread(summary, digits)
    return fixed(summary.low, 0 if summary.low.is_integer() else digits)


@dataclass(frozen=True)
class Scale:
    """A power of ten that keeps the small numbers of one column readable.

    Arguments:
        power: Numbers are printed in units of 10 to this power: 0, -3, -6, ...
        digits: Decimals.
    """

    power: int
    digits: int

    @classmethod
    def of(cls, largest: float) -> Scale:
        """The scale on which the largest number shows two or three significant digits."""
        power = 0 if largest == 0 or largest >= 1e-3 else 3 * math.floor(math.log10(largest) / 3)
        scaled = largest / 10.0**power
        return cls(power, first_digit(scaled) + 2 if power == 0 else 0 if scaled >= 100 else 1)

    @property
    def factor(self) -> str:
        """What precedes the unit: nothing, or `10⁻⁶ `."""
        return f"10{str(self.power).translate(_SUPERSCRIPT)} " if self.power else ""

    def value(self, number: float) -> float:
        """The number in units of this scale."""
        return number / 10.0**self.power

    def text(self, number: float) -> str:
        """The number as printed under this scale."""
        return fixed(self.value(number), self.digits)


def with_width(value: Interval, digits: int) -> str:
    """`estimate ± half-width` of an interval; one value has no width and says so."""
    text = fixed(value.estimate, digits)
    if value.low is None or value.high is None:
        return f"{text} (one pair, no width)"
    return f"{text} ± {fixed((value.high - value.low) / 2, digits)}"


def seconds(value: float) -> int:
    """Decimals of a duration in seconds that leave three significant digits, at most 3."""
    return 0 if value >= 100 else min(3, max(0, 2 - math.floor(math.log10(max(value, 1e-9)))))


def bytes_mib(value: float) -> str:
    """Bytes in MiB."""
    return f"{value / 2**20:,.0f}"


def count(value: float) -> str:
    """A whole number with thousands separators."""
    return f"{value:,.0f}"
