"""Axes of numbers: ticks at round values, printed with all their digits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import altair as alt

__all__ = ["bounded", "ticks", "tight"]


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About `count` multiples of 1, 2 or 5 times a power of ten between two values."""
    step = _step(low, high, count)
    digits = _decimals(step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, digits) for index in range(first, last + 1)]


def tight(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    """The range of some values with a margin; one value gets a range in which it can be read."""
    members = list(values)
    low, high = min(members), max(members)
    room = share * (high - low) or 0.01 * abs(low) or 1.0
    return low - room, high + room


def bounded(low: float, high: float, count: int = 6) -> dict[str, Any]:
    """Keywords of an altair channel from `low` to `high`: its scale and its axis.

    The labels have the decimals of the step between ticks, so none is rounded to another number.
    """
    marks = ticks(low, high, count)
    format_ = f",.{_decimals(_step(low, high, count))}f"
    return {
        "scale": alt.Scale(domain=[low, high], nice=False, zero=False),
        "axis": alt.Axis(values=marks, format=format_),
    }


def _step(low: float, high: float, count: int) -> float:
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))
