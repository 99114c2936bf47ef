"""Parquet and CSV: one row a trial, and beside them a table of what the columns mean."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd

from harness.exports.columns import describe_columns
from harness.records.files import replace

__all__ = ["write_columns", "write_csv", "write_parquet"]


def write_csv(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes `trials.csv` (UTF-8; empty where nothing was measured) and `columns.csv`."""
    path = folder / "trials.csv"
    replace(path, frame.to_csv(index=False).encode())
    return [path, write_columns(frame, folder)]


def write_parquet(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes `trials.parquet` and `columns.csv`."""
    path = folder / "trials.parquet"
    buffer = io.BytesIO()
    _uniform(frame).to_parquet(buffer, index=False)
    replace(path, buffer.getvalue())
    return [path, write_columns(frame, folder)]


def write_columns(frame: pd.DataFrame, folder: Path) -> Path:
    """Writes `columns.csv`: name, unit and description of each column."""
    path, text = folder / "columns.csv", io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("name", "unit", "description"))
    names = map(str, frame.columns)
    writer.writerows((each.name, each.unit, each.description) for each in describe_columns(names))
    replace(path, text.getvalue().encode())
    return path


def _uniform(frame: pd.DataFrame) -> pd.DataFrame:
    """A column of Parquet has one type: where records mix texts and numbers all become texts."""
    mixed = {
        name: frame[name].map(str, na_action="ignore")
        for name in frame.columns
        if frame[name].dtype == object and frame[name].dropna().map(type).nunique() > 1
    }
    return frame.assign(**mixed)
