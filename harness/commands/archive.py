"""`harness archive` and `harness report FILE.zip`: records in one file, and back."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.commands.report import report
from harness.planning.plan import plan_of_root, select
from harness.records.archive import unpack_archive, write_archive

__all__ = ["archive", "report_archive"]


def archive(root: Path, out: Path, where: str | None = None) -> int:
    """Writes the records and trained models of a root to one file.

    Arguments:
        root: The run root.
        out: The file.
        where: Only trials that match this filter.

    Returns:
        How many trials it holds.

    Raises:
        InputError: The filter is invalid, or no trial matches.
        RecordError: A record is damaged.
        StorageError: The file cannot be written.
    """
    made = select(plan_of_root(root), root, where)
    return write_archive(root, [planned.trial.id for planned in made.trials], out)


def report_archive(path: Path, out: Path | None = None, where: str | None = None) -> Path:
    """Writes the report of an archive.

    Arguments:
        path: The archive.
        out: Folder of the report; beside the archive by default.
        where: Only trials that match this filter.

    Returns:
        Path of the HTML file.

    Raises:
        RecordError: It is no archive, or a record in it is damaged.
        HarnessError: A package that draws reports is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="harness-archive-") as folder:
        root = Path(folder)
        unpack_archive(path, root)
        made = select(plan_of_root(root, path.stem), root, where)
        command = f"harness report {path.name}"
        return report(made, root, out or path.with_name(f"{path.stem}-report"), command=command)
