"""Charts as SVG: with real colours for files, with the page's variables inside the page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness_reports.page.elements import Chart, Page
from harness_reports.page.theme import with_variables

__all__ = ["VEGA_LITE", "Drawing", "draw"]

VEGA_LITE = "6.4"
"""Version of Vega-Lite that charts are drawn with."""


@dataclass(frozen=True)
class Drawing:
    """One chart, drawn.

    Arguments:
        file: SVG that stands alone.
        inline: The same for a page: its colours follow the reader's light or dark setting.
        source: Its Vega-Lite specification as JSON.
    """

    file: str
    inline: str
    source: str


def draw(page: Page) -> dict[str, Drawing]:
    """Draws all charts of a page, by their ids."""
    return {chart.id: _draw(chart) for chart in _charts(page)}


def _charts(page: Page) -> Iterator[Chart]:
    for section in page.sections:
        for block in section.blocks:
            if isinstance(block, Chart):
                yield block


def _draw(chart: Chart) -> Drawing:
    # Half a second to import; a page without charts does without it.
    import vl_convert

    source = json.dumps(chart.spec, ensure_ascii=False)
    svg: str = vl_convert.vegalite_to_svg(source, vl_version=VEGA_LITE)
    return Drawing(svg, _inline(svg, chart.id), source)


def _inline(svg: str, name: str) -> str:
    """Ids are unique within a page only if they carry the name of the chart; a chart is one image
    with one title there, and what it is made of has no roles and names of its own.
    """
    svg = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    return with_variables(svg)
