"""The index page of a run root: every suite that has a report, with its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.records.files import replace
from harness_reports.page.html import environment

__all__ = ["write_index"]


def write_index(folder: Path) -> Path:
    """Writes `index.html` over the reports in a folder.

    Arguments:
        folder: `<root>/reports`, in which every suite's report is a folder with `summary.json`.

    Returns:
        Path of the page.
    """
    suites = [
        {**summary, "folder": path.parent.name}
        for path in sorted(folder.glob("*/summary.json"))
        if (summary := _read(path)) is not None
    ]
    index = folder / "index.html"
    text = environment().get_template("index.html.j2").render(suites=suites)
    replace(index, text.encode())
    return index


def _read(path: Path) -> dict[str, Any] | None:
    """What a report says of itself; None if it is damaged, and the next report mends it."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(summary, dict) and {"suite", "description", "answers"} <= summary.keys()
    return summary if whole else None
