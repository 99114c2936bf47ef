"""What accuracy costs: evaluations of the dynamics against likelihood, with the Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import altair as alt
import pandas as pd

from harness_reports.page.axes import bounded, tight
from harness_reports.page.charts import backend_colour, backend_shape, finished
from harness_reports.page.elements import Chart
from harness_reports.trials.entries import Entry, backends_of, by_dataset
from harness_reports.trials.groups import groups_of, setting_names
from harness_reports.trials.quantities import Quantity, quantity_of

__all__ = ["efficiency_charts", "pareto_front"]

NFE = "nfe.test.forward.mean"


def efficiency_charts(entries: Sequence[Entry]) -> Iterator[Chart]:
    """One chart for each dataset whose settings differ in what a solve costs."""
    backends = backends_of(entries)
    for dataset, members in by_dataset(entries).items():
        quantity = quantity_of(members)
        table = _points(members, quantity)
        if table["nfe"].nunique() > 1:
            yield _chart(dataset, quantity, table, backends)


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of which no other is at most as large in both coordinates; from left to right."""
    front: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def _points(entries: Sequence[Entry], quantity: Quantity) -> pd.DataFrame:
    groups = groups_of(entries)
    names = setting_names(groups)
    rows = []
    for group in groups:
        result, nfe = group.summary(quantity.column), group.summary(NFE)
        if result is not None and nfe is not None:
            rows.append((group.title(names), group.labels["backend"], nfe.mean, result.mean))
    return pd.DataFrame(rows, columns=["setting", "backend", "nfe", "value"])


def _chart(
    dataset: str, quantity: Quantity, table: pd.DataFrame, backends: Sequence[str]
) -> Chart:
    front = pareto_front(zip(table["nfe"], table["value"], strict=True))
    on_front = [point in front for point in zip(table["nfe"], table["value"], strict=True)]
    sizes = [max(30, 150 - 100 * backends.index(name)) for name in table["backend"]]
    table = table.assign(front=on_front, size=sizes)
    unit = f", {quantity.further_unit}" if quantity.further_unit else ""
    x = alt.X("nfe:Q", title="NFE per test solve", **bounded(*tight(table["nfe"])))
    y = alt.Y("value:Q", title=f"{quantity.name}{unit}", **bounded(*tight(table["value"]), 5))
    marks = (
        alt.Chart()
        .mark_point(filled=True, opacity=1)
        .encode(
            x=x,
            y=y,
            color=backend_colour(backends).title("backend"),
            shape=backend_shape(backends).title("backend"),
            # Later ones are smaller: equal points do not hide one another.
            size=alt.Size("size:Q", legend=None, scale=None),
            tooltip=[
                alt.Tooltip("setting:N"),
                alt.Tooltip("backend:N"),
                alt.Tooltip("nfe:Q", title="NFE", format=".1f"),
                alt.Tooltip("value:Q", title=quantity.name, format=".5~f"),
            ],
        )
    )
    line = (
        alt.Chart()
        .transform_filter("datum.front")
        .mark_line(interpolate="step-after", strokeDash=[4, 3], color="#5c6370", strokeWidth=1)
        .encode(x=x, y=y)
    )
    middle = (table["nfe"].min() + table["nfe"].max()) / 2
    sides: tuple[tuple[str, Literal["left", "right"]], ...] = (("<=", "left"), (">", "right"))
    names = [
        alt.Chart()
        .transform_filter("datum.front")
        .transform_aggregate(nfe="min(nfe)", value="min(value)", groupby=["setting"])
        .transform_filter(f"datum.nfe {side} {middle}")
        # Inside the frame, on whichever side the point lies.
        .mark_text(align=align, dx=8 if align == "left" else -8, dy=-9)
        .encode(x=x, y=y, text="setting:N")
        for side, align in sides
    ]
    chart = alt.layer(line, marks, *names, data=alt.NamedData("rows")).properties(
        width=600, height=240
    )
    caption = (
        "Means over seeds. Lower and further left is better; the dashed steps join the settings "
        "of which no other is both cheaper and better (the Pareto front). Differences on it may "
        "be smaller than what another seed changes: see the table of results."
    )
    title = f"{dataset}: evaluations against {quantity.name}"
    return Chart(f"efficiency-{dataset}", title, finished(chart, table), caption)
