"""Colours of charts: one hex for files, one CSS variable for the page, so that it follows the
reader's light or dark setting without drawing anything again.

The series colours are those of Okabe & Ito (Color Universal Design, 2008), which readers with any
common colour vision tell apart; charts repeat them as shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["CONFIG", "INK", "RAMP", "SERIES", "SERIES_DARK", "SHAPES", "with_variables"]

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SERIES_DARK = ("#56b4e9", "#f5894a", "#2fc79b", "#e59ac4", "#e6b34d", "#8fd0f2")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
RAMP = (
    *("#440154", "#482878", "#3e4989", "#31688e", "#26828e"),
    *("#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"),
)
"""Dark to bright, even in lightness, so that it reads in grey too (viridis of matplotlib)."""

INK, FAINT, GRID = "#1c1e21", "#5c6370", "#dfe2e6"

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

CONFIG: Mapping[str, Any] = {
    "background": "transparent",
    "padding": {"left": 16, "right": 16, "top": 5, "bottom": 5},
    "font": FONT,
    "view": {"stroke": GRID},
    "axis": {
        "labelColor": FAINT,
        "titleColor": INK,
        "titleFontWeight": 500,
        "domainColor": GRID,
        "tickColor": GRID,
        "gridColor": GRID,
        "gridOpacity": 0.7,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "labelLimit": 320,
        # Browsers set text wider than the program that draws the charts reckons.
        "titlePadding": 12,
    },
    "legend": {
        "labelColor": INK,
        "titleColor": FAINT,
        "titleFontWeight": 500,
        "labelFontSize": 12,
        "orient": "top",
        "symbolStrokeWidth": 2,
        "symbolOpacity": 1,
    },
    "header": {
        "labelColor": INK,
        "titleColor": FAINT,
        "labelFontSize": 12,
        "labelFontWeight": 600,
        "labelLimit": 420,
    },
    "rule": {"color": FAINT},
    "text": {"color": FAINT},
}

_VARIABLES = {
    **{colour: f"var(--series-{index + 1})" for index, colour in enumerate(SERIES)},
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    GRID: "var(--line)",
}


def with_variables(svg: str) -> str:
    """An SVG in the colour variables of the page, so that it follows its light or dark theme."""
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(f'"{colour}"', f'"{variable}"')
    return svg
