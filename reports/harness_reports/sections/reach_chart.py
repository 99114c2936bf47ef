"""Validation likelihood against seconds of training, with the levels that are timed to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from harness_reports.page.charts import (
    backend_colour,
    backend_shape,
    finished,
    panel_width,
)
from harness_reports.page.elements import Chart
from harness_reports.page.numbers import fixed, level_digits
from harness_reports.trials.groups import Group, setting_names
from harness_reports.trials.quantities import Quantity
from harness_reports.trials.reach import Curve, Level

__all__ = ["reach_chart"]

_POINTS = 100
"""Validations of a curve that are drawn."""


def reach_chart(
    dataset: str,
    groups: Sequence[Group],
    curves: Mapping[str, Curve],
    levels: Sequence[Level],
    quantity: Quantity,
    backends: Sequence[str],
) -> Chart:
    """A panel for each setting; lines by backend and seed."""
    table = _rows(groups, curves)
    width = panel_width(min(2, table["panel"].nunique()))
    name = f"validation {quantity.curve_name}"
    name += f", {quantity.further_unit}" if quantity.further_unit else ""
    base = alt.Chart().encode(
        x=alt.X("seconds:Q", title="seconds of training"),
        y=alt.Y("value:Q", title=name, scale=_frame(table, levels)),
        color=backend_colour(backends).title("backend"),
        detail="trial:N",
    )
    layers = [
        base.mark_line(clip=True, strokeWidth=1.5).encode(strokeDash=alt.StrokeDash("seed:N")),
        base.mark_point(clip=True, filled=True, size=26).encode(
            shape=backend_shape(backends).title("backend"),
            tooltip=[
                alt.Tooltip("backend:N"),
                alt.Tooltip("seed:N"),
                alt.Tooltip("step:Q", format=","),
                alt.Tooltip("seconds:Q", format=".3~f"),
                alt.Tooltip("value:Q", title=name, format=".4~f"),
            ],
        ),
    ]
    for level in levels:
        layers += _rule(level, width)
    header = alt.Header(labelLimit=width, labelAnchor="start", labelPadding=4)
    panels = list(dict.fromkeys(table["panel"]))
    chart = (
        alt.layer(*layers, data=alt.NamedData("rows"))
        .properties(width=width, height=200)
        .facet(
            alt.Facet("panel:N", title=None, sort=panels, header=header),
            columns=min(2, len(panels)),
        )
    )
    return Chart(
        f"reach-curves-{dataset}",
        f"{dataset}: validation against seconds of training",
        finished(chart, table),
        "One line a trial that ended ok; compiling and validating are left out of the seconds. "
        "Dashes tell seeds apart; the dotted lines are the levels of the table.",
    )


def _rows(groups: Sequence[Group], curves: Mapping[str, Curve]) -> pd.DataFrame:
    names = setting_names(groups)
    rows = []
    for group in groups:
        for entry in group.entries:
            points = curves[entry.id].points if entry.id in curves else ()
            every = max(1, len(points) // _POINTS)
            who = (entry.id[:8], group.labels["backend"], str(entry.seed), group.title(names))
            rows += [(*who, *point) for point in points[::every]]
    columns = ["trial", "backend", "seed", "panel", "seconds", "step", "value"]
    return pd.DataFrame(rows, columns=columns)


def _frame(table: pd.DataFrame, levels: Sequence[Level]) -> alt.Scale:
    """The later half of the validations and the levels; the steep start is above the frame."""
    values = [float(table["value"].min()), float(table["value"].median())]
    values += [level.value for level in levels]
    margin = 0.06 * (max(values) - min(values)) or 1.0
    return alt.Scale(domain=[min(values) - margin, max(values) + margin], nice=False)


def _rule(level: Level, width: int) -> list[alt.Chart]:
    """A dotted line at a level, with its name."""
    # One row, or the rule would be drawn once for each row of the curves.
    rule = alt.Chart().transform_aggregate(rows="count()").encode(y=alt.datum(level.value))
    text = f"{level.name} {fixed(level.value, level_digits(level.value))}"
    label = rule.mark_text(align="right", baseline="bottom", dx=-4, dy=-3, text=text)
    return [rule.mark_rule(strokeDash=[2, 3]), label.encode(x=alt.value(width))]
