"""Learning curves of all backends laid over each other, and what each solve cost on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from harness_reports.page.charts import (
    backend_colour,
    backend_shape,
    finished,
    laid_over,
    panel_width,
    seed_dash,
)
from harness_reports.page.elements import Block, Chart, Paragraph, Section
from harness_reports.page.numbers import fixed, level_digits
from harness_reports.sections.curve_data import POINT_COLUMNS, TRIAL_COLUMNS, curve_table
from harness_reports.trials.entries import Entry, backends_of, by_dataset
from harness_reports.trials.quantities import Quantity, likelihood_of

__all__ = ["curves"]

_TOTAL_POINTS = 24_000
"""Points of all curves of a page: each curve gets its share."""

_START = 0.15
"""The steep first part of training, which the frame leaves out."""


def curves(entries: Sequence[Entry], history: pd.DataFrame) -> Section:
    """Two charts a dataset: what is minimised, and evaluations of the dynamics."""
    backends = backends_of(entries)
    points = max(20, min(100, _TOTAL_POINTS // max(1, 3 * len(entries))))
    blocks: list[Block] = []
    for dataset, members in by_dataset(entries).items():
        table = curve_table(members, history, points)
        loss, nfe = table[table["split"] != "solve"], table[table["split"] == "solve"]
        if loss.empty:
            blocks.append(Paragraph(f"{dataset}: no training curves were recorded.", "muted"))
            continue
        quantity = likelihood_of(members)
        gaussian = _gaussian(members, quantity)
        blocks.append(_loss_chart(dataset, quantity, loss, gaussian, backends))
        if not nfe.empty:
            blocks.append(_nfe_chart(dataset, nfe, backends))
    return Section("curves", "Learning curves", tuple(blocks))


def _loss_chart(
    dataset: str,
    quantity: Quantity,
    table: pd.DataFrame,
    gaussian: float | None,
    backends: Sequence[str],
) -> Chart:
    name = f"{quantity.curve_name}, {quantity.unit}"
    late = table[table["step"] >= _START * table["step"].max()]["value"]
    levels = [float(late.min()), float(late.max()), *([] if gaussian is None else [gaussian])]
    margin = 0.04 * (max(levels) - min(levels)) or 1.0
    scale = alt.Scale(domain=[min(levels) - margin, max(levels) + margin], nice=False)
    picked = alt.selection_point(fields=["backend"], bind="legend")
    faded = alt.condition(picked, alt.value(1.0), alt.value(0.1))
    base = _base(backends).encode(y=alt.Y("value:Q", title=name, scale=scale))
    training = base.transform_filter("datum.split == 'training'").encode(opacity=faded)
    validation = base.transform_filter("datum.split == 'validation'").encode(opacity=faded)
    layers = [
        training.mark_line(clip=True, strokeWidth=1, strokeOpacity=0.4),
        *laid_over(validation.encode(strokeDash=_dash(table)), backends),
        validation.mark_point(clip=True, filled=True, size=26)
        .encode(shape=backend_shape(backends).title("backend"), tooltip=_tooltip(name))
        .add_params(picked),
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
        dataset,
        _panels(layers, table, height=230),
        "Thin: batches of the training split, averaged over short spans of steps. Thick with "
        f"points: validation split; {backends[0]} is drawn broad so that another backend’s line "
        "upon it hides nothing. Both in nats per example, without the regularizers; flow matching "
        "has no thin line, for its steps compute no likelihood. The steep start is above the "
        "frame. Dashes tell seeds apart. A click on a backend in the legend singles it out.",
    )


def _nfe_chart(dataset: str, table: pd.DataFrame, backends: Sequence[str]) -> Chart:
    lines = _base(backends).encode(
        y=alt.Y("value:Q", title="NFE per solve", scale=alt.Scale(zero=False, padding=8)),
        strokeDash=_dash(table),
        tooltip=[alt.Tooltip("backend:N"), alt.Tooltip("seed:N"), alt.Tooltip("trial:N")],
    )
    return Chart(
        f"nfe-{dataset}",
        f"{dataset}: evaluations of the dynamics",
        _panels(laid_over(lines, backends), table, height=130),
        "Forward evaluations of the dynamics in the solve of a training step, summed over blocks: "
        "means over short spans of steps.",
    )


def _base(backends: Sequence[str]) -> alt.Chart:
    return alt.Chart().encode(
        x=alt.X("step:Q", title="training step", axis=alt.Axis(tickCount=6, labelFlush=True)),
        color=backend_colour(backends).title("backend"),
        detail="trial:N",
    )


def _dash(table: pd.DataFrame) -> alt.StrokeDash:
    return seed_dash(sorted(set(table["seed"]), key=int))


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
    rows = table.assign(trial=table["trial"].str[:8])
    trials = rows[list(TRIAL_COLUMNS)].drop_duplicates()
    return finished(chart, rows[list(POINT_COLUMNS)], trials)


def _columns(table: pd.DataFrame) -> int:
    return min(2, table["panel"].nunique())


def _width(table: pd.DataFrame) -> int:
    return panel_width(_columns(table))


def _tooltip(name: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("backend:N"),
        alt.Tooltip("seed:N"),
        alt.Tooltip("step:Q", format=","),
        alt.Tooltip("value:Q", title=name, format=".4~f"),
        alt.Tooltip("trial:N"),
    ]


def _gaussian(entries: Sequence[Entry], quantity: Quantity) -> float | None:
    column = quantity.baseline_column
    values = [entry.number(column) for entry in entries if entry.ok and column]
    return next((value for value in values if value is not None), None)
