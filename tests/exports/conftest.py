"""Invented records of a finished run."""

from finished_run import frame, records, root

__all__ = ["frame", "records", "root"]
