"""The margin within which results are the same, and who uses it."""

from __future__ import annotations

import pytest

from harness.comparison.margin import margin_of


@pytest.mark.parametrize(
    ("values", "spread", "dtype", "margin"),
    [
        ((), None, "float32", 1e-5),
        ((2.0,), 1e-6, "float32", 2e-5),
        ((2.0,), 0.0437, "float32", 0.004),
        ((-80.0,), None, "float32", 8e-4),
        ((-80.0,), 0.0437, "float32", 0.004),
        ((2.0,), None, "float64", 1e-10 * 2.0),
        # One trial that went astray does not widen it.
        ((1.0, 1.0, 1e9), 0.0437, "float32", 0.004),
        # Rounded down, but never below the bar.
        ((1.9,), 1.99e-4, "float32", 1.9e-5),
    ],
)
def test_the_margin(
    values: tuple[float, ...], spread: float | None, dtype: str, margin: float
) -> None:
    assert margin_of(values, spread, dtype) == pytest.approx(margin)
