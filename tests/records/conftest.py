"""A finished run, as its plan, its records and their table."""

from __future__ import annotations

from finished_run import frame, plan, records, root

__all__ = ["frame", "plan", "records", "root"]
