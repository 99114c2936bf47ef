"""The report as one HTML file that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

import base64
import functools
from typing import Any

import jinja2
import vl_convert

from harness_reports.page.elements import Chart, Page
from harness_reports.page.theme import RAMP, SERIES, SERIES_DARK, page_spec

__all__ = ["VEGA_LITE", "render_html"]

VEGA_LITE = "6.4"
"""Version of Vega-Lite that the inlined bundle and the exported figures are made with."""


def render_html(page: Page) -> str:
    """Renders the page; all text is escaped, all scripts and pictures are inside."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness_reports.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["data_uri"] = _data_uri
    has_charts = any(isinstance(block, Chart) for s in page.sections for block in s.blocks)
    values: dict[str, Any] = {
        "page": page,
        "bundle": _bundle() if has_charts else "",
        "page_spec": page_spec,
        "series": SERIES,
        "series_dark": SERIES_DARK,
        "ramp": ", ".join(RAMP),
    }
    return environment.get_template("report.html.j2").render(values)


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script."""
    script: str = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE
    )
    # The only two character sequences that an HTML parser would act upon inside a script.
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
