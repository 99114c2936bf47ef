"""Reads the records of a plan and has the package `harness_reports` write their report."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness.errors import HarnessError
from harness.planning.plan import Plan
from harness.records.files import storing

__all__ = ["report"]


def report(
    plan: Plan,
    root: Path,
    out: Path | None = None,
    source: Literal["records", "mlflow"] = "records",
    command: str | None = None,
) -> Path:
    """Writes the report of a plan's trials; the records of no other trial are read.

    Arguments:
        plan: The trials to report.
        root: The run root.
        out: Folder of the report; `<root>/reports/<suite>` by default.
        source: Read the records, or their mirror in MLflow.
        command: The command line that makes it, shown in the report.

    Returns:
        Path of the HTML file.

    Raises:
        HarnessError: A package that draws reports is not installed.
        RecordError: The record of one of them is damaged.
        StorageError: The folder cannot be written.
    """
    try:
        from harness_reports import write_report

        from harness.records import frame
    except ModuleNotFoundError as error:
        raise HarnessError(
            f"the report needs {error.name}, which is not installed. "
            "Run: pip install 'cnf-harness[report]'"
        ) from error
    ids = [planned.trial.id for planned in plan.trials]
    if source == "mlflow":
        from harness.records import mlflow as tracking

        records, history = tracking.load(root, trial_ids=ids), tracking.history(root, ids)
    else:
        records, history = frame.load(root, ids), frame.history(root, ids)
    folder = out or root / "reports" / plan.suite
    with storing(folder):
        return write_report(
            plan,
            records,
            folder,
            root=root if source == "records" else None,
            history=history,
            command=command,
        )
