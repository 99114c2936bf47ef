"""`harness export`: the records of a run root in the forms that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError, InputError, Problem
from harness.records.files import storing
from harness.records.folder import Record, read_records
from harness.suites.filters import fields_of, parse_filter

__all__ = ["FORMATS", "export", "formats_of"]

FORMATS = ("csv", "parquet", "latex", "json", "ro-crate")


def formats_of(text: str) -> tuple[str, ...]:
    """Reads a list such as `csv,latex`.

    Raises:
        InputError: One of them is not known; all such are named.
    """
    wanted = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    problems = [
        Problem("--format", f"unknown format '{name}'", known=FORMATS, found=name)
        for name in wanted
        if name not in FORMATS
    ]
    if problems:
        raise InputError(problems)
    return wanted


def export(
    root: Path,
    to: Path,
    formats: Sequence[str] = FORMATS,
    *,
    where: str | None = None,
    license: str | None = None,
) -> list[Path]:
    """Writes the records of a run root to a folder.

    Arguments:
        root: The run root.
        to: The folder; it is made if it does not exist, and files of the same names are replaced.
        formats: Some of `FORMATS`.
        where: Only trials that match this filter.
        license: Address of the licence of the results, for the crate.

    Returns:
        The files that were written.

    Raises:
        InputError: The filter is invalid, or no record matches.
        HarnessError: pandas or pyarrow is not installed.
        RecordError: Records are damaged; it names all.
        StorageError: The folder cannot be written.
    """
    records = _records(root, where)
    try:
        from harness.exports.latex import write_latex
        from harness.exports.model_index import write_results
        from harness.exports.ro_crate import write_crate
        from harness.exports.tables import write_csv, write_parquet
        from harness.records.columns import row
        from harness.records.frame import frame_of

        files: list[Path] = []
        with storing(to):
            to.mkdir(parents=True, exist_ok=True)
            frame = frame_of(row(each.trial, each.result) for each in records)
            tables = {"csv": write_csv, "parquet": write_parquet, "latex": write_latex}
            for name, write in tables.items():
                files += write(frame, to) if name in formats else []
            files += write_results(records, to) if "json" in formats else []
            files = list(dict.fromkeys(files))
            # Last, since it describes the others.
            files += write_crate(records, files, to, license) if "ro-crate" in formats else []
    except ImportError as error:
        raise HarnessError(
            f"the export needs {error.name or 'pyarrow'}, which is not installed. "
            "Run: pip install 'cnf-harness[report]'"
        ) from error
    return files


def _records(root: Path, where: str | None) -> list[Record]:
    records = list(read_records(root))
    if where is not None:
        matches = parse_filter(where).matches
        records = [
            each
            for each in records
            if matches({**fields_of(each.trial, "finished"), "id": (each.trial.id,)})
        ]
    if not records:
        message = f"no record under {root / 'trials'}" + (" matches" if where else "")
        raise InputError([Problem("export", message, fix="name another run root")])
    return records
