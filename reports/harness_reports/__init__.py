"""Reports: tables and figures from records, never running anything."""

from harness_reports.report import write_report

__all__ = ["write_report"]
