"""What a shell completes: suites, filters, and the ids of recorded trials."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import typer

from harness.errors import HarnessError
from harness.records.folder import DEFAULT_ROOT

__all__ = ["complete_filter", "complete_suite", "complete_trial"]

_NAMED = {"dataset": "datasets", "backend": "backends", "solver": "solvers"}
"""Axes whose names the catalogue has."""
_TERM = re.compile(
    r"(?P<before>.*[&|(]\s*!?\s*|\s*!?\s*)"
    r"(?P<field>[A-Za-z_]*)\s*(?P<sign>!=|==?)?\s*(?P<value>[^&|()]*)",
    re.DOTALL,
)
"""The term of a filter that is being written, and all before it."""
_MANY = 50
"""More ids than this come without a word on what they are, which takes a file each."""

Completion = str | tuple[str, str]


def complete_suite(incomplete: str) -> list[Completion]:
    """Built-in suites by name, and files of suites here."""
    from harness.suites.builtin import suite_files

    names: list[Completion] = [
        (name, f"built in, {path.name}")
        for name, path in suite_files().items()
        if name.startswith(incomplete)
    ]
    return names + list(_files(incomplete))


def _files(incomplete: str) -> Iterator[str]:
    """Files that begin so, and folders on the way to some."""
    folder, beginning = os.path.split(incomplete)
    with suppress(OSError):
        for entry in sorted(os.scandir(folder or "."), key=lambda each: each.name):
            if not entry.name.startswith(beginning) or entry.name.startswith("."):
                continue
            path = os.path.join(folder, entry.name)
            if entry.is_dir():
                yield f"{path}/"
            elif entry.name.endswith((".yaml", ".yml")):
                yield path


def complete_filter(incomplete: str) -> list[Completion]:
    """The last term of a filter: a field, or a value of an axis with known names."""
    from harness.suites.filters import FIELDS

    found = _TERM.fullmatch(incomplete)
    if found is None:
        return []
    before, field, sign, value = found.groups()
    if sign is None:
        return [f"{before}{each}=" for each in FIELDS if each.startswith(field)]
    return [f"{before}{field}{sign}{each}" for each in _values(field) if each.startswith(value)]


def _values(field: str) -> list[str]:
    from harness.suites.catalogue import catalogue

    if field == "state":
        return ["finished", "skipped", "to_run", "to_score"]
    if field not in _NAMED:
        return []
    return [entry.name for entry in catalogue()[_NAMED[field]]]


def complete_trial(ctx: typer.Context, incomplete: str) -> list[Completion]:
    """Ids of the trials under `--root`."""
    from harness.labels import trial_name
    from harness.records.folder import TrialFolder, trial_ids

    root = Path(ctx.params.get("root") or os.environ.get("HARNESS_ROOT") or DEFAULT_ROOT)
    found: list[Completion] = []
    with suppress(HarnessError):
        ids = [name for name in trial_ids(root) if name.startswith(incomplete)]
        if len(ids) > _MANY:
            return list(ids)
        for name in ids:
            with suppress(HarnessError):
                trial, _ = TrialFolder(root, name).read_spec()
                found.append((name, trial_name(trial)))
    return found
