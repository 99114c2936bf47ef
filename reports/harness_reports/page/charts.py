"""What all charts share: data, scales of the backends, and the finished specification."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from harness_reports.page.theme import CONFIG, SERIES, SHAPES

__all__ = [
    "backend_colour",
    "backend_shape",
    "finished",
    "laid_over",
    "panel_width",
]

_PAGE_WIDTH = 1080


def backend_colour(backends: Sequence[str], field: str = "backend") -> alt.Color:
    """Colour by backend; the order of `backends` decides, so that all charts agree."""
    return alt.Color(
        f"{field}:N", scale=alt.Scale(domain=list(backends), range=_cycle(SERIES, backends))
    )


def backend_shape(backends: Sequence[str], field: str = "backend") -> alt.Shape:
    """Shape of points by backend, since not every reader can tell colours apart."""
    return alt.Shape(
        f"{field}:N", scale=alt.Scale(domain=list(backends), range=_cycle(SHAPES, backends))
    )


def laid_over(lines: alt.Chart, backends: Sequence[str]) -> list[alt.Chart]:
    """Two layers of the same lines: the first backend broad and pale, the others thin and dashed.

    Backends that agree draw the same line; this way both stay visible.
    """
    first = f"datum.backend == {json.dumps(backends[0])}"
    return [
        lines.transform_filter(first).mark_line(clip=True, strokeWidth=5, strokeOpacity=0.5),
        lines.transform_filter(f"!({first})").mark_line(
            clip=True, strokeWidth=1.8, strokeDash=[6, 3]
        ),
    ]


def panel_width(columns: int) -> int:
    """Width of each of `columns` panels in pixels."""
    return max(200, min(640, (_PAGE_WIDTH - 50) // max(1, columns) - 24))


def finished(chart: alt.TopLevelMixin, table: pd.DataFrame) -> dict[str, Any]:
    """The Vega-Lite specification with its data and the report's theme.

    Arguments:
        chart: A chart without data.
        table: Its rows.
    """
    spec: dict[str, Any] = chart.to_dict(validate=False)
    # Altair would check every single value, so it never sees the data.
    spec |= {"data": {"name": "rows"}, "datasets": {"rows": _records(table)}}
    return {**spec, "config": dict(CONFIG)}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table; numbers keep six significant digits of what differs in a column."""
    columns = {str(name): _short(list(column)) for name, column in table.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _cycle(values: Sequence[str], names: Sequence[str]) -> list[str]:
    return [values[index % len(values)] for index in range(len(names))]


def _short(column: Sequence[object]) -> list[object]:
    finite = [each for each in column if isinstance(each, float) and math.isfinite(each)]
    range_ = max(finite, default=0.0) - min(finite, default=0.0)
    largest = max(map(abs, finite), default=0.0)
    # Values that are close together keep the digits in which they differ.
    shared = math.floor(math.log10(largest / range_)) if range_ > 0 else 0
    digits = min(17, 6 + max(0, shared))
    return [float(f"{each:.{digits}g}") if isinstance(each, float) else each for each in column]
