"""Learning curves: mean and range over seeds, the backends laid over each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import pandas as pd

from harness_reports.page.axes import bounded, tight
from harness_reports.page.charts import backend_colour, finished, laid_over, panel_width
from harness_reports.page.elements import Block, Chart, Paragraph
from harness_reports.page.numbers import fixed, level_digits
from harness_reports.sections.curve_data import curve_table
from harness_reports.trials.entries import Entry, backends_of, by_dataset
from harness_reports.trials.quantities import Quantity, quantity_of

__all__ = ["curve_blocks"]

_TOTAL_POINTS = 24_000
"""Points of all curves of a page: each curve gets its share."""

_START = 0.15
"""The steep first part of training, which the frame leaves out."""

_MOST_PANELS = 8
"""Settings of one dataset that get a panel; more could not be looked at."""


def curve_blocks(entries: Sequence[Entry], history: pd.DataFrame) -> Iterator[Block]:
    """Two charts a dataset: what is minimised, and evaluations of the dynamics."""
    backends = backends_of(entries)
    points = max(20, min(100, _TOTAL_POINTS // max(1, 3 * len(entries))))
    silent = []
    for dataset, members in by_dataset(entries).items():
        table = curve_table(members, history, points)
        total = table["panel"].nunique()
        table = table[table["panel"].isin(table["panel"].unique()[:_MOST_PANELS])]
        loss, nfe = table[table["split"] != "solve"], table[table["split"] == "solve"]
        if loss.empty:
            silent.append(dataset)
            continue
        rest = f" Shown are {_MOST_PANELS} of {total} settings." if total > _MOST_PANELS else ""
        yield _loss_chart(members, loss, backends, rest)
        if not nfe.empty:
            yield _nfe_chart(dataset, nfe, backends, rest)
    if silent:
        yield Paragraph(f"No training curves were recorded: {', '.join(silent)}.", "muted")


def _loss_chart(
    entries: Sequence[Entry], table: pd.DataFrame, backends: Sequence[str], rest: str
) -> Chart:
    dataset, quantity = entries[0].labels["dataset"], quantity_of(entries)
    gaussian = _gaussian(entries, quantity)
    late = table[table["step"] >= _START * table["step"].max()]
    levels = [*late["low"], *late["high"], *([] if gaussian is None else [gaussian])]
    y = alt.Y("value:Q", title=_axis_title(quantity), **bounded(*tight(levels, 0.04)))
    base = _base(table, backends).encode(y=y)
    training = base.transform_filter("datum.split == 'training'")
    validation = base.transform_filter("datum.split == 'validation'")
    layers = [
        _band(validation),
        training.mark_line(clip=True, strokeWidth=1, strokeOpacity=0.35),
        *laid_over(validation, backends),
    ]
    if gaussian is not None:
        # One row, or the rule would be drawn once for each row of the curves.
        rule = alt.Chart().transform_aggregate(rows="count()").encode(y=alt.datum(gaussian))
        text = f"Gaussian {fixed(gaussian, level_digits(gaussian))}"
        label = rule.mark_text(align="right", baseline="bottom", dx=-4, dy=-3, text=text)
        layers.append(rule.mark_rule(strokeDash=[2, 3]))
        layers.append(label.encode(x=alt.value(_width(table))))
    return Chart(
        f"curves-{dataset}",
        f"{dataset}: learning curves",
        _panels(layers, table, height=230),
        f"Thick: {quantity.curve_name} of the validation split, the mean over {_seeds(table)}, "
        f"in a band from the lowest seed to the highest; {_legend(backends)} Thin: batches of "
        "the training split, averaged over short spans of steps; flow matching has none, for its "
        "steps compute no likelihood. Without the regularizers. The steep start may lie above the "
        f"frame.{rest}",
    )


def _nfe_chart(dataset: str, table: pd.DataFrame, backends: Sequence[str], rest: str) -> Chart:
    y = alt.Y(
        "value:Q", title="NFE per solve", **bounded(*tight([*table["low"], *table["high"]]), 4)
    )
    lines = _base(table, backends).encode(y=y)
    return Chart(
        f"nfe-{dataset}",
        f"{dataset}: evaluations of the dynamics during training",
        _panels([_band(lines), *laid_over(lines, backends)], table, height=130),
        "Forward evaluations of the dynamics in the solve of a training step, summed over blocks: "
        f"the mean over {_seeds(table)} and short spans of steps, in a band from the lowest seed "
        f"to the highest; {_legend(backends)}{rest}",
    )


def _axis_title(quantity: Quantity) -> str:
    unit = quantity.further_unit
    return f"{quantity.curve_name}, {unit}" if unit else quantity.curve_name


def _legend(backends: Sequence[str]) -> str:
    if len(backends) == 1:
        return f"{backends[0]} alone."
    return f"{backends[0]} is drawn broad, {' and '.join(backends[1:])} dashed upon it."


def _seeds(table: pd.DataFrame) -> str:
    most = int(table["seeds"].max())
    return "one seed" if most == 1 else f"{most} seeds"


def _base(table: pd.DataFrame, backends: Sequence[str]) -> alt.Chart:
    last = float(table["step"].max())
    return alt.Chart().encode(
        x=alt.X("step:Q", title="training step", **bounded(0.0, last or 1.0, 4)),
        color=backend_colour(backends).title("backend"),
        detail="backend:N",
    )


def _band(lines: alt.Chart) -> alt.Chart:
    band: alt.Chart = lines.mark_area(clip=True, opacity=0.18).encode(
        y=lines.encoding.y, y2=alt.Y2("high:Q")
    )
    encoding = band.encoding.y.copy(deep=True)
    encoding.shorthand = "low:Q"
    return band.encode(y=encoding)


def _panels(layers: Sequence[alt.Chart], table: pd.DataFrame, height: int) -> dict[str, Any]:
    names = list(dict.fromkeys(table["panel"]))
    header = alt.Header(labelLimit=_width(table), labelAnchor="start", labelPadding=4)
    chart = (
        alt.layer(*layers, data=alt.NamedData("rows"))
        .properties(width=_width(table), height=height)
        .facet(
            alt.Facet("panel:N", title=None, sort=names, header=header), columns=_columns(table)
        )
    )
    return finished(chart, table)


def _columns(table: pd.DataFrame) -> int:
    return min(2, table["panel"].nunique())


def _width(table: pd.DataFrame) -> int:
    return panel_width(_columns(table))


def _gaussian(entries: Sequence[Entry], quantity: Quantity) -> float | None:
    column = quantity.baseline_column
    values = [entry.number(column) for entry in entries if entry.ok and column]
    return next((value for value in values if value is not None), None)
