"""How numbers are printed: fixed digits for each quantity, a real minus sign, always with n."""

from __future__ import annotations

import math

from harness.statistics import Interval, Summary

__all__ = [
    "bytes_mib",
    "common",
    "count",
    "fixed",
    "interval",
    "level_digits",
    "plural",
    "seconds",
    "spread",
]


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


def spread(summary: Summary, digits: int) -> str:
    """`mean ± standard deviation`; a single value prints no spread, for it has none."""
    text = fixed(summary.mean, digits)
    return text if summary.sd is None else f"{text} ± {fixed(summary.sd, digits)}"


def common(summary: Summary, digits: int) -> str:
    """As `spread`, but a value that all seeds share is printed alone, whole numbers as such."""
    if summary.low != summary.high:
        return spread(summary, digits)
    return fixed(summary.low, 0 if summary.low.is_integer() else digits)


def interval(value: Interval, digits: int) -> str:
    """`[low, high]`, or words if one value gives no interval."""
    if value.low is None or value.high is None:
        return "none (n = 1)"
    return f"[{fixed(value.low, digits)}, {fixed(value.high, digits)}]"


def seconds(value: float) -> int:
    """Decimals of a duration in seconds that leave three significant digits, at most 3."""
    return 0 if value >= 100 else min(3, max(0, 2 - math.floor(math.log10(max(value, 1e-9)))))


def bytes_mib(value: float) -> str:
    """Bytes in MiB."""
    return f"{value / 2**20:,.0f}"


def count(value: float) -> str:
    """A whole number with thousands separators."""
    return f"{value:,.0f}"


def plural(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
