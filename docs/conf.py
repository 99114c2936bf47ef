"""How Sphinx makes pages of the documentation: `make docs`."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

project = "cnf-harness"
copyright = "cnf-harness, MIT licence"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "cnf-harness"
myst_heading_anchors = 3

_REPORT = re.compile(r"\[([^\]]+)\]\((\.\./reports/published/[^)]*?)(?:report|README)\.md\)")


def setup(app: Sphinx) -> None:
    """Registers what the pages need beside Markdown."""
    app.connect("source-read", _carry_reports)


def _carry_reports(app: Sphinx, page: str, source: list[str]) -> None:
    """Reports lie outside the documentation: the site carries their page, one file each."""
    source[0] = _REPORT.sub(r"{download}`\1 <\2index.html>`", source[0])
