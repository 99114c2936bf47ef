"""Reports of a run: records in, the answers, one HTML file, one Markdown file and figures out."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["results_text", "write_index", "write_page", "write_report"]

if TYPE_CHECKING:
    from harness_reports.index import write_index
    from harness_reports.report import write_page, write_report
    from harness_reports.summary import results_text


def __getattr__(name: str) -> object:
    """Hands on what is asked for first, so that a table for a terminal needs no charts."""
    if name == "write_index":
        from harness_reports.index import write_index

        return write_index
    if name in ("write_page", "write_report"):
        from harness_reports import report

        return getattr(report, name)
    if name == "results_text":
        from harness_reports.summary import results_text

        return results_text
    raise AttributeError(f"module 'harness_reports' has no attribute '{name}'")
