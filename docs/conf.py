"""How Sphinx makes pages of the documentation: `make docs`."""

from __future__ import annotations

project = "cnf-harness"
copyright = "cnf-harness, MIT licence"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "cnf-harness"
myst_heading_anchors = 3
