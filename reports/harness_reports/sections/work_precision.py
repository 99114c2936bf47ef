"""Work and precision: errors of log p on the same weights, against the time of a solve and NFE.

Trials whose evaluation asks for `accuracy` have them. Those of one dataset and one training, in
every backend, are one pair of panels: solvers, tolerances and engines are their points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from harness.labels import label, solver_label
from harness.records.columns import metric_column
from harness_reports.page.charts import backend_colour, finished, panel_width
from harness_reports.page.elements import Block, Cell, Chart, Column, Paragraph, Row, Table, absent
from harness_reports.page.numbers import fixed, seconds
from harness_reports.sections.efficiency import pareto_front
from harness_reports.trials.entries import Entry, backends_of

__all__ = ["OVERHEAD_S", "work_precision_blocks"]

OVERHEAD_S = 0.1
"""A solve that takes less is bound by what a framework does beside computing: "overhead-bound"."""

_MEDIAN, _MOST, _ALL = (
    metric_column(f"log_prob_error_{name}") for name in ("median", "99", "max")
)
_GRADIENT = metric_column("gradient_error")
_ENGINES = {("torch", "library"): "torchdiffeq", ("jax", "library"): "diffrax"}
_FLOOR = 1e-12
"""An error of exactly nothing has no place on a logarithmic axis."""
_NOTE = (
    "Errors are |log p - reference| over rows, nats; the reference, dopri5 at 1e-10 in float64, "
    "has the weights of the same trained model. Time: median [quartiles] of the repeated solves "
    "of one batch, compiled before. A solve under 100 ms is overhead-bound: its time says little "
    "of larger ones."
)
_CLOCK, _PROCESSOR = "timing.solve_s", "timing.solve_cpu_s"


def work_precision_blocks(entries: Sequence[Entry]) -> Iterator[Block]:
    """A pair of panels and a table for each dataset and training that was measured."""
    backends = backends_of(entries)
    members: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.ok and entry.number(_MEDIAN) is not None:
            trained = label(entry.planned.trial)["training"]
            members.setdefault((entry.labels["dataset"], trained), []).append(entry)
    for number, ((dataset, training), group) in enumerate(members.items()):
        # Processor time does not count what others took of the machine meanwhile.
        column = _CLOCK if all(entry.exclusive for entry in group) else _PROCESSOR
        rows = [_row(entry, column) for entry in group]
        title = f"{dataset}, trained {training}"
        yield _chart(f"work-precision-{number}", title, rows, backends, column)
        yield _table(f"work-precision-table-{number}", title, rows, column)
    if members:
        yield Paragraph(_NOTE, "muted")


def _row(entry: Entry, column: str) -> dict[str, Any]:
    trial = entry.planned.trial
    engine = trial.evaluation.engine or trial.engine
    return {
        "backend": trial.backend,
        "engine": _ENGINES.get((trial.backend, engine), f"{trial.backend}, {engine}"),
        "solver": solver_label(trial.evaluation_solver),
        "nfe": entry.number("nfe.solve"),
        "seconds": entry.number(f"{column}.median"),
        "low": entry.number(f"{column}.q25"),
        "high": entry.number(f"{column}.q75"),
        "error": max(_FLOOR, entry.number(_MEDIAN) or 0.0),
        "most": entry.number(_MOST),
        "all": entry.number(_ALL),
        "gradient": entry.number(_GRADIENT),
        "n": entry.number(f"{_MEDIAN}.n"),
    }


def _chart(
    id_: str, title: str, rows: Sequence[Mapping[str, Any]], backends: Sequence[str], column: str
) -> Chart:
    clock = "seconds" if column == _CLOCK else "seconds of processor time"
    costs = {"seconds": f"{clock} a solve", "nfe": "NFE a solve"}
    table = pd.DataFrame(
        [
            {
                **{k: row[k] for k in ("backend", "engine", "solver", "error")},
                "by": by,
                "cost": cost,
            }
            for by in costs
            for row in rows
            if (cost := row[by]) is not None
        ]
    )
    fronts = {
        by: pareto_front(zip(part["cost"], part["error"], strict=True))
        for by, part in table.groupby("by")
    }
    table["front"] = [
        (cost, error) in fronts[by]
        for by, cost, error in zip(table["by"], table["cost"], table["error"], strict=True)
    ]
    panels = [_panel(by, name, backends) for by, name in costs.items()]
    caption = (
        "Lower and further left is better, both axes logarithmic. The dashed steps join what "
        "nothing beats in both (the Pareto front, of all backends and engines)."
    )
    chart = alt.hconcat(*panels, data=alt.NamedData("rows"))
    return Chart(id_, f"{title}: error of log p against work", finished(chart, table), caption)


def _panel(by: str, name: str, backends: Sequence[str]) -> Any:  # noqa: ANN401
    # Ticks at powers of ten and nothing between, so that labels never overlap.
    scale, format_ = alt.Scale(type="log", nice=True), alt.Axis(format="~g", tickCount=6)
    x = alt.X("cost:Q", title=name, scale=scale, axis=format_)
    y = alt.Y(
        "error:Q",
        title="median error of log p, nats",
        scale=scale,
        axis=alt.Axis(format=".0e", tickCount=6),
    )
    base = alt.Chart().transform_filter(f"datum.by == '{by}'")
    marks = base.mark_point(size=60, filled=True, opacity=0.85).encode(
        x=x,
        y=y,
        color=backend_colour(backends).title("backend"),
        shape=alt.Shape("engine:N", title="engine"),
        tooltip=[
            alt.Tooltip("solver:N"),
            alt.Tooltip("engine:N"),
            alt.Tooltip("cost:Q", title=name, format=".4~g"),
            alt.Tooltip("error:Q", title="median error, nats", format=".2e"),
        ],
    )
    front = (
        base.transform_filter("datum.front")
        .mark_line(interpolate="step-after", strokeDash=[4, 3], color="#5c6370", strokeWidth=1)
        .encode(x=x, y=y)
    )
    return alt.layer(front, marks).properties(width=panel_width(2) - 60, height=260)


def _table(id_: str, title: str, rows: Sequence[Mapping[str, Any]], column: str) -> Table:
    columns = (
        Column("solver", heading=True),
        Column("engine"),
        Column("NFE", numeric=True),
        Column("solve" if column == _CLOCK else "solve, processor", "ms", numeric=True),
        Column("median error", "nats", numeric=True),
        Column("99 %", "nats", numeric=True),
        Column("maximum", "nats", numeric=True),
        Column("gradient", "relative", numeric=True),
        Column("remark", narrow=True),
    )
    points = [(row["seconds"], row["error"]) for row in rows]
    front = pareto_front([point for point in points if None not in point])
    lines = []
    for row, point in zip(rows, points, strict=True):
        time = row["seconds"]
        short = time is not None and time < OVERHEAD_S
        remarks = ["front"] * (point in front) + ["overhead-bound"] * short
        cells = (
            Cell(row["solver"]),
            Cell(row["engine"]),
            absent() if row["nfe"] is None else Cell(f"{row['nfe']:.0f}", value=row["nfe"]),
            _milliseconds(row),
            *(_error(row[name]) for name in ("error", "most", "all", "gradient")),
            Cell(", ".join(remarks)),
        )
        lines.append(Row(cells))
    return Table(id_, title, columns, tuple(lines), sortable=True)


def _error(value: float | None) -> Cell:
    return absent("not asked for") if value is None else Cell(f"{value:.1e}", value=value)


def _milliseconds(row: Mapping[str, Any]) -> Cell:
    parts = [None if row[k] is None else 1000 * row[k] for k in ("seconds", "low", "high")]
    median, low, high = parts
    if median is None or low is None or high is None:
        return absent()
    digits = seconds(median)
    text = f"{fixed(median, digits)} [{fixed(low, digits)}, {fixed(high, digits)}]"
    return Cell(text, value=median)
