"""Every seed's result as a dot: the spread of the tables, to look at."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from harness_reports.page.charts import backend_colour, backend_shape, finished
from harness_reports.page.elements import Block, Chart, Paragraph, Section
from harness_reports.page.numbers import fixed, level_digits
from harness_reports.sections.results import RESULTS_NOTE, results_table
from harness_reports.trials.entries import Entry, by_dataset
from harness_reports.trials.groups import groups_of, varying
from harness_reports.trials.quantities import quantity_of

__all__ = ["results_chart", "results_section"]


def results_section(entries: Sequence[Entry]) -> Section:
    """One table and one chart a dataset."""
    backends = list(dict.fromkeys(entry.labels["backend"] for entry in entries))
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
    quantity = quantity_of(entries)
    groups = groups_of(entries)
    names = ("solver", "regularizer", *varying(groups))
    rows = [
        {
            "settings": " · ".join(group.labels.get(name, "") for name in names),
            "backend": group.labels["backend"],
            "seed": str(seed),
            "value": value,
        }
        for group in groups
        for seed, value in group.values(quantity.column).items()
    ]
    if not rows:
        return None
    table = pd.DataFrame(rows)
    y = alt.Y("settings:N", title=None, sort=list(dict.fromkeys(table["settings"])))
    unit = "" if quantity.unit in quantity.name else f", {quantity.unit}"
    title = f"{quantity.name}{unit} (lower is better)"
    dots = (
        alt.Chart()
        .mark_point(filled=True, size=60, opacity=0.85)
        .encode(
            x=alt.X(
                "value:Q",
                title=title,
                axis=alt.Axis(tickCount=6, labelFlush=True),
                scale=alt.Scale(zero=False, padding=12),
            ),
            y=y.axis(alt.Axis(grid=True, labelLimit=420)),
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
    layers = [dots]
    caption = "One mark a trial that ended ok."
    baseline = quantity.gaussian
    levels = [v for group in groups if baseline for v in group.values(baseline).values()]
    level = levels[0] if levels else None
    if level is not None:
        text = f"Gaussian {fixed(level, level_digits(level))}"
        caption += f" {text} on the same test rows"
        # Drawn far away it would press all marks into one corner.
        low, high = float(table["value"].min()), float(table["value"].max())
        if low - (high - low) <= level <= high + (high - low):
            rule = alt.Chart().transform_aggregate(rows="count()").encode(x=alt.datum(level))
            label = rule.mark_text(align="right", baseline="top", dx=-5, dy=4, text=text)
            layers += [rule.mark_rule(strokeDash=[2, 3]), label.encode(y=alt.value(0))]
            caption += ": the dotted line."
        else:
            caption += ", outside the frame."
    chart = alt.layer(*layers, data=alt.NamedData("rows")).properties(
        width=640, height=alt.Step(17)
    )
    return Chart(
        f"dots-{dataset}",
        f"{dataset}: every seed",
        finished(chart, table),
        caption,
    )
