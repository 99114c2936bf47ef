"""Ticks that say what they are."""

from __future__ import annotations

import pytest
from harness_reports.page.axes import bounded, ticks, tight
from harness_reports.sections.efficiency import pareto_front
from hypothesis import given
from hypothesis import strategies as st


@given(low=st.floats(-1e3, 1e3), width=st.floats(1e-6, 1e3))
def test_no_label_is_rounded_to_another_number(low: float, width: float) -> None:
    high = low + width
    format_ = bounded(low, high)["axis"].format
    for tick in ticks(low, high):
        shown = float(format(tick, format_).replace(",", ""))
        assert shown == pytest.approx(tick, abs=1e-12, rel=1e-12)


def test_a_single_point_has_ticks_around_it() -> None:
    low, high = tight([5.493])
    marks = ticks(low, high)
    assert low < 5.493 < high
    assert len(marks) >= 3
    assert min(marks) < 5.493 < max(marks)
    assert 5.0 not in marks


def test_the_front_has_what_nothing_beats() -> None:
    points = [(1.0, 5.0), (2.0, 3.0), (2.0, 4.0), (3.0, 3.0), (4.0, 1.0)]
    assert pareto_front(points) == [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0)]
