"""Reads the records of a plan and has the package `harness_reports` write their report."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from harness.commands.results import run_command
from harness.errors import HarnessError
from harness.planning.plan import Plan
from harness.records.files import replace, storing
from harness.records.folder import TrialFolder
from harness.records.version import __version__

__all__ = ["report"]

_MADE_FROM = ".made-from"
"""File beside a report: the digest of all that it was made from."""


def report(
    plan: Plan,
    root: Path,
    out: Path | None = None,
    source: Literal["records", "mlflow"] = "records",
    command: str | None = None,
    *,
    again: bool = True,
) -> Path:
    """Writes the report of a plan's trials; the records of no other trial are read.

    Arguments:
        plan: The trials to report.
        root: The run root.
        out: Folder of the report; `<root>/reports/<suite>` by default, whose index is then
            written too.
        source: Read the records, or their mirror in MLflow.
        command: The command line that makes it, shown in the report.
        again: Write it even if nothing that it shows has changed since it was written.

    Returns:
        Path of the HTML file.

    Raises:
        HarnessError: A package that draws reports is not installed.
        RecordError: The record of one of them is damaged.
        StorageError: The folder cannot be written.
    """
    folder = out or root / "reports" / plan.suite
    made_from = _digest(plan, root, command) if source == "records" else ""
    if not again and made_from and _made_from(folder) == made_from:
        return folder / "index.html"
    try:
        from harness_reports import write_index, write_report

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
    with storing(folder):
        written = write_report(
            plan,
            records,
            folder,
            root=root if source == "records" else None,
            history=history,
            command=run_command(plan, root),
            made_by=command,
        )
        replace(folder / _MADE_FROM, made_from.encode())
        if out is None:
            write_index(folder.parent)
    return written


def _made_from(folder: Path) -> str | None:
    """The digest of what a whole report was made from; None if there is no such report."""
    try:
        return (folder / _MADE_FROM).read_text() if (folder / "index.html").is_file() else None
    except (OSError, ValueError):
        return None


def _digest(plan: Plan, root: Path, command: str | None) -> str:
    """A digest of the plan, its records, and the programs that draw them.

    Files count by their size and time, which change whenever a record is written.
    """
    planned = [(p.trial.id, p.state, p.reason) for p in plan.trials]
    gates = [str(gate) for gate in plan.gates]
    head = [__version__, command, str(root), plan.suite, plan.description, plan.source, gates]
    digest = hashlib.sha256(json.dumps([*head, planned]).encode())
    for path in (*_records(plan, root), *_programs()):
        try:
            status = path.stat()
        except OSError:
            continue
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _records(plan: Plan, root: Path) -> Iterator[Path]:
    for planned in plan.trials:
        folder = TrialFolder(root, planned.trial.id)
        yield folder.result
        if not planned.is_waiting:
            continue
        # Of a trial that has not ended the report has the curves alone.
        yield from (attempt / "metrics.jsonl" for attempt in folder.attempts())
    for beside in ("timings", "verified", "estimates"):
        yield from sorted((root / beside).rglob("*.json"))


def _programs() -> Iterator[Path]:
    spec = importlib.util.find_spec("harness_reports")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(path for path in Path(place).rglob("*.*") if path.suffix != ".pyc")
