"""Every seed's result as a dot: the spread of the tables, to look at."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from harness_reports.page.charts import backend_colour, backend_shape, finished
from harness_reports.page.elements import Block, Chart, Paragraph, Section
from harness_reports.page.numbers import fixed, level_digits
from harness_reports.sections.results import RESULTS_NOTE, results_table
from harness_reports.trials.entries import Entry, backends_of, by_dataset
from harness_reports.trials.groups import Group, groups_of, setting_names
from harness_reports.trials.quantities import Quantity, quantity_of

__all__ = ["results_chart", "results_section"]


def results_section(entries: Sequence[Entry]) -> Section:
    """One table and one chart a dataset."""
    backends = backends_of(entries)
    blocks: list[Block] = []
    for members in by_dataset(entries).values():
        blocks.append(results_table(members))
        chart = results_chart(members, backends)
        blocks += [] if chart is None else [chart]
    blocks.append(Paragraph(RESULTS_NOTE, "muted"))
    return Section("results", "Results", tuple(blocks))


def results_chart(entries: Sequence[Entry], backends: Sequence[str]) -> Chart | None:
    """The results of one dataset; None if no trial has any.

    Arguments:
        entries: All trials of one dataset.
        backends: All backends of the plan, in its order.
    """
    dataset = entries[0].labels["dataset"]
    quantity, groups = quantity_of(entries), groups_of(entries)
    table = _rows(groups, quantity)
    if table.empty:
        return None
    caption = "One mark a trial that ended ok."
    layers = [_dots(table, quantity, backends)]
    level = _gaussian_level(groups, quantity)
    if level is not None:
        text = f"Gaussian {fixed(level, level_digits(level))}"
        caption += f" {text} on the same test rows"
        if _fits(level, table["value"]):
            layers += _rule(level, text)
            caption += ": the dotted line."
        else:
            caption += ", outside the frame."
    chart = alt.layer(*layers, data=alt.NamedData("rows")).properties(
        width=640, height=alt.Step(17)
    )
    title = f"{dataset}: every seed"
    return Chart(f"dots-{dataset}", title, finished(chart, table), caption)


def _rows(groups: Sequence[Group], quantity: Quantity) -> pd.DataFrame:
    """One row a trial that has a result: columns `settings backend seed value`."""
    names = setting_names(groups)
    return pd.DataFrame(
        [
            (group.title(names), group.labels["backend"], str(seed), value)
            for group in groups
            for seed, value in group.values(quantity.column).items()
        ],
        columns=["settings", "backend", "seed", "value"],
    )


def _dots(table: pd.DataFrame, quantity: Quantity, backends: Sequence[str]) -> alt.Chart:
    unit = f", {quantity.further_unit}" if quantity.further_unit else ""
    settings = list(dict.fromkeys(table["settings"]))
    dots: alt.Chart = (
        alt.Chart()
        .mark_point(filled=True, size=60, opacity=0.85)
        .encode(
            x=alt.X(
                "value:Q",
                title=f"{quantity.name}{unit} (lower is better)",
                axis=alt.Axis(tickCount=6, labelFlush=True),
                scale=alt.Scale(zero=False, padding=12),
            ),
            y=alt.Y("settings:N", title=None, sort=settings).axis(
                alt.Axis(grid=True, labelLimit=420)
            ),
            yOffset=alt.YOffset("backend:N", sort=list(backends)),
            color=backend_colour(backends).title("backend"),
            shape=backend_shape(backends).title("backend"),
            tooltip=[
                alt.Tooltip("settings:N"),
                alt.Tooltip("backend:N"),
                alt.Tooltip("seed:N"),
                alt.Tooltip("value:Q", title=quantity.name, format=".5~f"),
            ],
        )
    )
    return dots


def _gaussian_level(groups: Sequence[Group], quantity: Quantity) -> float | None:
    """The Gaussian's value, which is the same for all trials; None if there is none."""
    column = quantity.baseline_column
    if column is None:
        return None
    return next((value for group in groups for value in group.values(column).values()), None)


def _fits(level: float, values: pd.Series[float]) -> bool:
    """False if the level is so far away that drawing it would press all marks into one corner."""
    low, high = float(values.min()), float(values.max())
    return low - (high - low) <= level <= high + (high - low)


def _rule(level: float, text: str) -> list[alt.Chart]:
    """A dotted line at the level, with its text."""
    # One row, or the rule would be drawn once for each mark.
    at_level = alt.Chart().transform_aggregate(rows="count()").encode(x=alt.datum(level))
    label = at_level.mark_text(align="right", baseline="top", dx=-5, dy=4, text=text)
    return [at_level.mark_rule(strokeDash=[2, 3]), label.encode(y=alt.value(0))]
