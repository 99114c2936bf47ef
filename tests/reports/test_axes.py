"""Ticks that say what they are."""

from __future__ import annotations

import altair as alt
import pandas as pd
import pytest
from harness_reports.page.axes import bounded, ticks, tight
from harness_reports.page.charts import finished
from harness_reports.page.drawings import draw
from harness_reports.page.elements import Chart, Facts, Page, Section
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


def test_values_close_together_keep_the_digits_in_which_they_differ() -> None:
    values = [3.002102996, 3.002141531, 3.002121234]
    table = pd.DataFrame({"value": values, "text": ["a", "b", "c"], "whole": [1, 2, 3]})
    spec = finished(alt.Chart().mark_point(), table)
    rows = spec["datasets"]["rows"]
    found = [row["value"] for row in rows]
    assert max(abs(a - b) for a, b in zip(found, values, strict=True)) < 1e-6 * 4e-5
    far = finished(alt.Chart().mark_point(), pd.DataFrame({"value": [1.23456789, 1e6]}))
    assert far["datasets"]["rows"][0] == {"value": 1.23457}


def test_a_chart_of_a_page_is_one_image() -> None:
    spec = finished(alt.Chart().mark_point().encode(x="value:Q"), pd.DataFrame({"value": [1.0]}))
    page = Page("s", "", (), Facts(()), (Section("a", "A", (Chart("c", "C", spec, ""),)),))
    drawing = draw(page)["c"]
    # The page says role and name around it; parts with roles and without names say nothing.
    assert "role=" in drawing.file
    assert "role=" not in drawing.inline
    assert "aria-" not in drawing.inline
