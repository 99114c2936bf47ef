"""Where tests of datasets write miniature files, and the benchmarks they are complete for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.datasets.families.tabular import TABLES
from harness.datasets.sources.public import PublicDataset


def at(path: Path) -> Path:
    """The path, in a folder that exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def table(name: str, **rows: int) -> PublicDataset:
    """A tabular benchmark whose complete data have other row counts."""
    whole = next(table for table in TABLES if table.name == name)
    return replace(whole, rows=rows)
