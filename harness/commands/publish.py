"""`harness publish`: the results of a suite as a folder that is kept with the code."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.export import export
from harness.commands.publication import Publication, copy_records
from harness.errors import HarnessError
from harness.planning.plan import Plan, plan_of_root, plan_suite
from harness.records.folder import read_records
from harness.suites.builtin import find_suite
from harness.suites.suite import load_suite
from harness.text import counted

if TYPE_CHECKING:
    from harness_reports.page.elements import Page

__all__ = [
    "FORMATS",
    "MADE_BY",
    "publication_text",
    "publish",
    "published_page",
    "published_plan",
    "write_published",
]

FORMATS = ("csv", "latex")
MADE_BY = "make published"


def publish(suite: str, root: Path, into: Path) -> Publication:
    """Copies what is published of the trials of a suite, and writes report and exports beside.

    Arguments:
        suite: Name of a built-in suite, or a file.
        root: The run root that the trials were run in.
        into: The folder, a run root itself.

    Raises:
        InputError: The suite is invalid, all its trials are skipped, or some were run in `into`.
        HarnessError: A package that draws reports is not installed.
        RecordError: A record is damaged.
        StorageError: The folder cannot be written.
    """
    made = plan_suite(suite, root)
    publication = copy_records(root, into, made.suite, made.wanted)
    write_published(suite, into)
    return publication


def write_published(suite: str, folder: Path) -> Path:
    """Writes the report and the exports of a published folder from its records, and them alone: no
    data and no clock has a part in it, so that the same records give the same bytes.

    Arguments:
        suite: Name of a built-in suite, or a file.
        folder: The folder, as commands name it.

    Returns:
        Path of the report's page.

    Raises:
        As `publish`.
    """
    try:
        from harness_reports import write_page
    except ModuleNotFoundError as error:
        raise HarnessError(
            f"the report needs {error.name}, which is not installed. "
            "Run: pip install 'cnf-harness[report]'"
        ) from error
    written = write_page(published_page(suite, folder), folder)
    if any(read_records(folder)):
        export(folder, folder / "export", FORMATS)
    return written


def published_page(suite: str, folder: Path) -> Page:
    """The report of a published folder as values, before any of it is rendered.

    Arguments:
        suite: Name of a built-in suite, or a file.
        folder: The folder, as commands name it.

    Raises:
        As `publish`.
    """
    from harness_reports.report import page_of

    from harness.records import frame

    made = published_plan(suite, folder)
    ids = [planned.trial.id for planned in made.trials]
    return page_of(
        made,
        frame.load(folder, ids),
        root=folder,
        history=frame.history(folder, ids),
        command=f"harness run {suite}",
        made_by=MADE_BY,
        written=last_record(folder),
    )


def published_plan(suite: str, folder: Path) -> Plan:
    """The plan of the trials of a published folder: what they are is in their specs, so that no
    data have to be at hand.
    """
    loaded = load_suite(find_suite(suite))
    return replace(
        plan_of_root(folder, loaded.name),
        description=loaded.description,
        gates=tuple(placed.gate for placed in loaded.all_gates()),
        source=suite,
        timing=loaded.timing,
    )


def last_record(folder: Path) -> datetime.datetime:
    """When the last result under a run root was committed; the epoch if there is none."""
    last = max((int(each.result["finished_ms"]) for each in read_records(folder)), default=0)
    return datetime.datetime.fromtimestamp(last / 1000, datetime.UTC)


def publication_text(publication: Publication, into: Path) -> str:
    """A line of totals."""
    parts = [f"{counted(len(publication.ended), 'trial')} ended"]
    if publication.begun:
        parts.append(f"{len(publication.begun)} begun, with a checkpoint")
    if publication.too_large:
        parts.append(f"{len(publication.too_large)} begun, whose checkpoint is too large")
    return f"{', '.join(parts)}: {into / 'index.html'}"
