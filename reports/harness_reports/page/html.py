"""The report as one HTML file that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping
from typing import Any

import jinja2
import markupsafe

from harness_reports.page.drawings import Drawing
from harness_reports.page.elements import Axis, Page
from harness_reports.page.theme import RAMP, SERIES, SERIES_DARK

__all__ = ["environment", "render_html"]


def render_html(page: Page, drawings: Mapping[str, Drawing]) -> str:
    """Renders the page; all text is escaped, all scripts, charts and pictures are inside.

    Arguments:
        page: The page.
        drawings: Its charts, drawn.
    """
    template = environment().get_template("report.html.j2")
    return template.render(page=page, drawings=drawings)


@functools.cache
def environment() -> jinja2.Environment:
    """The templates, with all that their heads share."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("harness_reports.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["kind"] = lambda block: type(block).__name__
    templates.filters["prose"] = _prose
    templates.filters["data_uri"] = _data_uri
    templates.filters["ends"] = _ends
    shared: dict[str, Any] = {
        "series": SERIES,
        "series_dark": SERIES_DARK,
        "ramp": ", ".join(RAMP),
    }
    templates.globals.update(shared)
    return templates


def _prose(text: str) -> markupsafe.Markup:
    """Text in which `words` between backticks are code."""
    parts = [markupsafe.escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return markupsafe.escape(text)
    code = markupsafe.Markup("<code>{}</code>")
    return markupsafe.Markup("").join(
        code.format(part) if index % 2 else part for index, part in enumerate(parts)
    )


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _ends(axis: Axis) -> list[str]:
    """What is printed at the low and at the high end of an axis."""
    return [f"{value:.3g}".replace("-", "−") for value in (axis.low, axis.high)]
