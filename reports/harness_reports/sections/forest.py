"""Forest plots: our means with their spread over seeds beside the published values, by dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt
import pandas as pd

from harness_reports.page.axes import bounded, tight
from harness_reports.page.charts import backend_colour, backend_shape, finished
from harness_reports.page.elements import Chart
from harness_reports.page.numbers import fixed, level_digits
from harness_reports.published.judgement import dataset_of, published_rows
from harness_reports.published.verdict import difference_of_datasets
from harness_reports.trials.entries import Entry, backends_of, by_dataset
from harness_reports.trials.groups import SEPARATOR, Group, groups_of, setting_names
from harness_reports.trials.quantities import Quantity, quantity_of

__all__ = ["forest_charts"]

PUBLISHED = "published"
_COLUMNS = ["row", "who", "part", "value", "low", "high"]
_MOST_SETTINGS = 40
"""Settings of one chart; a chart of more could not be read."""

_MOST_PUBLISHED = 8
"""Published values of one chart: the target, and the first of those after it in the table."""


def forest_charts(entries: Sequence[Entry]) -> Iterator[Chart]:
    """One chart for each dataset with a result."""
    backends = backends_of(entries)
    for members in by_dataset(entries).values():
        chart = _forest_chart(members, backends)
        if chart is not None:
            yield chart


def _forest_chart(entries: Sequence[Entry], backends: Sequence[str]) -> Chart | None:
    dataset = entries[0].labels["dataset"]
    quantity, groups = quantity_of(entries), groups_of(entries)
    ours = _ours(groups, quantity)
    if ours.empty:
        return None
    shown = list(dict.fromkeys(ours["row"]))[:_MOST_SETTINGS]
    table = pd.concat(
        [ours[ours["row"].isin(shown)], _published(dataset, quantity)], ignore_index=True
    )
    gaussian = _gaussian_level(groups, quantity)
    domain = _domain(table, gaussian)
    layers = _layers(table, quantity, backends, domain)
    caption = (
        "Large marks: means over seeds, with a bar of one standard deviation to either side; "
        "small marks: single seeds."
    )
    if (table["who"] == PUBLISHED).any():
        caption += (
            " Published values have a bar where a deviation over runs is published; those here "
            "are the target and the first after it in the table of all models."
        )
    if len(shown) < ours["row"].nunique():
        caption += f" Shown are {len(shown)} of {ours['row'].nunique()} settings."
    if gaussian is not None:
        text = f"Gaussian {fixed(gaussian, level_digits(gaussian))}"
        inside = domain[0] <= gaussian <= domain[1]
        caption += f" {text}{': the dotted line.' if inside else ', outside the frame.'}"
        layers += _rule(gaussian, text) if inside else []
    # A label has a line for each part of the name.
    lines = 1 + max(str(name).count(SEPARATOR) for name in table["row"])
    step = alt.Step(max(34, 8 + 13 * lines), **{"for": "position"})
    chart = alt.layer(*layers, data=alt.NamedData("rows")).properties(width=600, height=step)
    title = f"{dataset}: {quantity.name}, ours and published"
    if not (table["who"] == PUBLISHED).any():
        title = f"{dataset}: {quantity.name}"
    return Chart(f"forest-{dataset}", title, finished(chart, table), caption)


def _ours(groups: Sequence[Group], quantity: Quantity) -> pd.DataFrame:
    names = setting_names(groups)
    rows = []
    for group in groups:
        summary = group.summary(quantity.column)
        if summary is None:
            continue
        head = (group.title(names), group.labels["backend"])
        spread = summary.sd or 0.0
        rows.append((*head, "mean", summary.mean, summary.mean - spread, summary.mean + spread))
        rows += [(*head, "seed", v, v, v) for v in group.values(quantity.column).values()]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _published(dataset: str, quantity: Quantity) -> pd.DataFrame:
    rows = []
    known = dataset_of(dataset)
    if known is not None and difference_of_datasets(dataset, known) is None:
        first = published_rows(known, quantity.metric.name)[:_MOST_PUBLISHED]
        for value in (row[0] for row in first):
            spread = value.spread or 0.0 if value.spread_kind == "sd_over_runs" else 0.0
            name = value.model if value.trained_by is None else f"{value.model} ({value.source})"
            name += " (recalled)" if value.from_memory else ""
            bar = (value.value - spread, value.value + spread)
            rows.append((name, PUBLISHED, "mean", value.value, *bar))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _domain(table: pd.DataFrame, gaussian: float | None) -> tuple[float, float]:
    low, high = tight([*table["low"], *table["high"], *table["value"]])
    # A Gaussian far away would press all marks into one corner.
    if gaussian is not None and low - (high - low) <= gaussian <= high + (high - low):
        low, high = tight([low, high, gaussian], 0.02)
    return low, high


def _layers(
    table: pd.DataFrame, quantity: Quantity, backends: Sequence[str], domain: tuple[float, float]
) -> list[alt.Chart]:
    unit = f", {quantity.further_unit}" if quantity.further_unit else ""
    who = list(backends) + ([PUBLISHED] if (table["who"] == PUBLISHED).any() else [])
    base = alt.Chart().encode(
        x=alt.X("value:Q", title=f"{quantity.name}{unit} (lower is better)", **bounded(*domain)),
        y=alt.Y("row:N", title=None, sort=list(dict.fromkeys(table["row"]))).axis(
            alt.Axis(grid=True, labelLimit=420, labelExpr=f"split(datum.label, '{SEPARATOR}')")
        ),
        yOffset=alt.YOffset("who:N", sort=who),
        color=backend_colour(who, field="who").title(None),
    )
    mean = base.transform_filter("datum.part == 'mean'")
    seed = base.transform_filter("datum.part == 'seed'")
    return [
        mean.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2=alt.X2("high:Q")),
        seed.mark_point(filled=True, size=26, opacity=0.6),
        mean.mark_point(filled=True, size=70).encode(
            shape=backend_shape(who, field="who").title(None),
            tooltip=[
                alt.Tooltip("row:N", title="setting"),
                alt.Tooltip("who:N", title="by"),
                alt.Tooltip("value:Q", title=quantity.name, format=".5~f"),
            ],
        ),
    ]


def _gaussian_level(groups: Sequence[Group], quantity: Quantity) -> float | None:
    """The Gaussian's value, which is the same for all trials; None if there is none."""
    column = quantity.baseline_column
    if column is None:
        return None
    return next((value for group in groups for value in group.values(column).values()), None)


def _rule(level: float, text: str) -> list[alt.Chart]:
    """A dotted line at the level, with its text."""
    # One row, or the rule would be drawn once for each mark.
    at_level = alt.Chart().transform_aggregate(rows="count()").encode(x=alt.datum(level))
    label = at_level.mark_text(align="right", baseline="top", dx=-5, dy=4, text=text)
    return [at_level.mark_rule(strokeDash=[2, 3]), label.encode(y=alt.value(0))]
