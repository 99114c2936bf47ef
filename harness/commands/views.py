"""What commands print: plain text in single lines, fit for a terminal and for grep."""

from __future__ import annotations

import collections
import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.doctor import Check
from harness.commands.outcome import Failure, Outcome
from harness.commands.show import TrialRecord
from harness.commands.status import TrialStatus
from harness.labels import MAIN_AXES, label, trial_name
from harness.records.folder import DEFAULT_ROOT
from harness.suites.catalogue import DataFacts, Entry
from harness.text import columns, counted
from harness.trial import encode

if TYPE_CHECKING:
    # It is heavy, and most commands print something lighter.
    from harness.commands.density import Density

__all__ = [
    "catalogue_text",
    "data_text",
    "density_text",
    "doctor_text",
    "outcome_text",
    "rerun_command",
    "show_json",
    "show_text",
    "status_json",
    "status_text",
]


def status_text(statuses: Sequence[TrialStatus]) -> str:
    """A line for each trial, then how many have which status."""
    rows = []
    for entry in statuses:
        labels = label(entry.trial)
        names = (labels[axis] for axis in MAIN_AXES)
        rows.append((entry.trial.id, entry.status, entry.step, *names, entry.message))
    table = columns(rows, header=("id", "status", "step", *MAIN_AXES, "message"))
    counts = collections.Counter(entry.status for entry in statuses)
    totals = ", ".join(f"{number:,} {status}" for status, number in counts.most_common())
    return f"{table}\n{counted(len(statuses), 'trial')}: {totals}"


def status_json(statuses: Sequence[TrialStatus]) -> list[dict[str, object]]:
    """The same as plain values."""
    return [
        {
            "id": entry.trial.id,
            **label(entry.trial),
            "seed": entry.trial.seed,
            "status": entry.status,
            "step": entry.step,
            "message": entry.message,
        }
        for entry in statuses
    ]


def show_text(record: TrialRecord) -> str:
    """The axes of a trial, then its metrics, then the rest of its record as JSON."""
    head = [("trial", record.trial.id), *label(record.trial).items()]
    head.append(("suites", ", ".join(record.suites)))
    if record.result is None:
        return columns([*head, ("status", "no result yet")])
    result = record.result
    head += [
        (key, str(result[key])) for key in ("status", "message", "attempts") if result.get(key)
    ]
    for note in record.same:
        machine = (note.get("environment") or {}).get("cpu_model", "another machine")
        head.append(("the same from", f"attempt {note.get('attempt_id')}, {machine}"))
    rest = {key: result.get(key) for key in ("timing", "nfe", "memory", "environment")}
    return "\n\n".join([columns(head), columns(_metric_rows(result)), json.dumps(rest, indent=2)])


def evaluation_text(record: TrialRecord) -> str:
    """Name, evaluation, status and metrics of one trial."""
    result = record.result or {}
    head = [
        ("trial", record.trial.id),
        ("name", trial_name(record.trial)),
        ("evaluation", label(record.trial)["evaluation"]),
        ("status", str(result.get("status", "no result yet"))),
    ]
    if result.get("message"):
        head.append(("message", str(result["message"])))
    by = (result.get("environment") or {}).get("trained_by")
    if by:
        head.append(("trained by", str(by["trial_id"])))
    return "\n\n".join(filter(None, (columns(head), columns(_metric_rows(result)))))


def density_text(density: Density) -> str:
    """The trial, how many points, their mean log p, and what a point is."""
    mean = f"{density.mean:.6g}"
    if density.sem is not None:
        mean += f" ± {density.sem:.2g} (standard error)"
    return columns(
        [
            ("trial", density.trial_id),
            ("points", f"{len(density.values):,}"),
            (f"mean {density.name}", f"{mean} nats"),
            ("evaluations", f"{density.evaluations:,}"),
            ("space", density.space),
        ]
    )


def _metric_rows(result: Mapping[str, Any]) -> list[tuple[str, str, str | None, str]]:
    return [
        (name, f"{entry['value']:.6g}", entry.get("unit"), f"n={entry.get('n')}")
        for name, entry in (result.get("metrics") or {}).items()
        if entry is not None and entry["value"] is not None
    ]


def show_json(record: TrialRecord) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "trial_id": record.trial.id,
        "spec": encode(record.trial),
        "resources": dataclasses.asdict(record.resources),
        "suites": list(record.suites),
        "result": record.result,
        "same": list(record.same),
    }


def catalogue_text(kinds: Mapping[str, Sequence[Entry]]) -> str:
    """A heading for each kind, its names below; `-` marks what is not ready on this machine."""
    lists = []
    for kind, entries in kinds.items():
        rows = [("  " if e.ready else "- ", e.name, e.summary) for e in entries]
        lists.append(f"{kind}\n{columns(rows)}")
    return "\n\n".join(lists)


def data_text(facts: DataFacts) -> str:
    """Facts of a loaded dataset, a line for each."""
    sizes = ", ".join(
        f"{split} {f'{rows:,}' if rows else 'endless'}" for split, rows in facts.sizes.items()
    )
    if facts.degenerate:
        which = ", ".join(map(str, facts.degenerate[:10])) + (
            ", ..." if len(facts.degenerate) > 10 else ""
        )
        gaussian = (
            f"none: degenerate data, whose columns {which} (from 0) are constant or follow from "
            "those before them; no density on them has a bound"
        )
    elif facts.gaussian_nll is None:
        gaussian = "none: the pixels are discrete, for an autoencoder"
    else:
        gaussian = f"{facts.gaussian_nll:.4f} nats"
        if facts.gaussian_bits_per_dim is not None:
            gaussian += f", {facts.gaussian_bits_per_dim:.4f} bits/dim"
        gaussian += f" on {facts.gaussian_rows:,} test rows"
    return columns(
        [
            ("name", facts.name),
            ("summary", facts.summary),
            ("digest", facts.digest),
            ("shape", "x".join(map(str, facts.event_shape))),
            ("rows", sizes),
            ("Gaussian", gaussian),
        ]
    )


def doctor_text(checks: Sequence[Check]) -> str:
    """A line for each check."""
    marks = {True: "ok", False: "MISSING", None: "--"}
    return columns([(marks[check.ok], check.name, check.detail) for check in checks])


def outcome_text(result: Outcome, source: str, root: Path) -> str:
    """Totals, the gates that were not kept, and the failed trials with the command for each."""
    totals = [f"{result.ok:,} ok"]
    totals += [f"{len(result.failures):,} failed"] if result.failures else []
    totals += [f"{result.skipped:,} skipped"] if result.skipped else []
    lines = [", ".join(totals), *result.gates]
    for failure in result.failures:
        name = trial_name(failure.trial)
        lines.append(f"{failure.trial.id} ({name}) {failure.sentence}")
        lines.append(f"  {rerun_command(failure, source, root)}")
    return "\n".join(lines)


def rerun_command(failure: Failure, source: str, root: Path) -> str:
    """The command that runs one failed trial alone, in a process where it can be watched."""
    parts = [f"harness run {shlex.quote(source)} -k id={failure.trial.id} --executor inline"]
    # Without it, what is final is not run again.
    parts += ["--rerun"] if failure.status and failure.status.is_final else []
    parts += [f"--root {shlex.quote(str(root))}"] if root != DEFAULT_ROOT else []
    return " ".join(parts)
