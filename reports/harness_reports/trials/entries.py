"""The trials of a plan joined with their records."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.labels import label
from harness.planning.plan import Plan, PlannedTrial
from harness.records.status import Status
from harness.trial import AXES, canonical_json, encode
from harness_reports.page.naming import SHORTENED, breakable, short_names

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FINGERPRINT",
    "OPTIONAL",
    "Entry",
    "anchor",
    "backends_of",
    "by_dataset",
    "entries_of",
    "is_autoencoder",
    "settings_note",
]

OPTIONAL = tuple(
    axis for axis in AXES if axis not in ("dataset", "backend", "seed") and axis not in SHORTENED
)
"""Axes that are columns of a table only if they differ within a dataset, in this order."""

FINGERPRINT = "environment.hardware_fingerprint"
"""Column of a hash of the hardware: equal on equal machines."""

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Entry:
    """One planned trial and its record.

    Arguments:
        planned: The trial as planned.
        labels: Short words for its axes, unambiguous within its dataset.
        record: Its row of the frame; empty if there is none.
    """

    planned: PlannedTrial
    labels: Labels
    record: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The trial's identity."""
        return self.planned.trial.id

    @functools.cached_property
    def counterpart_key(self) -> str:
        """Equal for the trials that differ in nothing but the seed and the backend."""
        # Asked for often, and most of the time of a large report if it were made anew.
        return canonical_json({**encode(self.planned.trial), "seed": 0, "backend": ""})

    @property
    def settings_key(self) -> tuple[str, str]:
        """Equal for the trials that differ in nothing but the seed."""
        return self.planned.trial.backend, self.counterpart_key

    @property
    def seed(self) -> int:
        """The trial's seed."""
        return self.planned.trial.seed

    @property
    def status(self) -> str:
        """The status of the record; without one `skipped` or `not run`."""
        if self.skipped:
            return Status.SKIPPED.value
        return str(self.record["status"]) if self.record else "not run"

    @property
    def state(self) -> str:
        """The status in words."""
        return self.status.replace("_", " ")

    @property
    def ok(self) -> bool:
        """True if the trial ended as planned, so that its numbers count."""
        return self.status == Status.OK.value

    @property
    def skipped(self) -> bool:
        """True if the plan leaves the trial out."""
        return self.planned.state == "skipped"

    @property
    def waiting(self) -> bool:
        """True if the trial is planned and has no record yet."""
        return not (self.skipped or self.record)

    @property
    def failed(self) -> bool:
        """True if the trial ran and did not end as planned."""
        return not (self.ok or self.skipped or self.waiting)

    @property
    def gradient(self) -> str:
        """How gradients are computed; what `auto` chose, once the trial has chosen."""
        planned, chosen = self.planned.trial.gradient, self.text("environment.gradient")
        return f"{planned}: {chosen}" if planned == "auto" and chosen else str(planned)

    @property
    def exclusive(self) -> bool:
        """True if no other trial used the machine while this one was timed."""
        return self.text("timing.mode") == "exclusive"

    def number(self, column: str) -> float | None:
        """A finite number of the record, None if it was not measured."""
        value = self.record.get(column)
        if value is None or isinstance(value, str):
            return None
        return float(value) if math.isfinite(value) else None

    def text(self, column: str) -> str | None:
        """A value of the record as text, None if there is none."""
        value = self.record.get(column)
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        return None if missing else str(value)


def anchor(trial_id: str) -> str:
    """Anchor of a trial's details."""
    return f"trial-{trial_id}"


def entries_of(
    plan: Plan, records: pd.DataFrame | Sequence[Mapping[str, Any]]
) -> tuple[Entry, ...]:
    """Joins the plan with the records.

    Arguments:
        plan: The trials, in order.
        records: The frame of `harness.load`, or the rows it is made of; those of trials that are
            not in the plan are left out.
    """
    rows = records if isinstance(records, Sequence) else records.to_dict("records")
    by_trial = {str(row["trial_id"]): {str(k): value for k, value in row.items()} for row in rows}
    unique = {planned.trial.id: planned for planned in plan.trials}
    labels = {trial_id: label(planned.trial) for trial_id, planned in unique.items()}
    shorten = _shortener(labels.values())
    return tuple(
        Entry(planned, shorten(labels[trial_id]), by_trial.get(trial_id, {}))
        for trial_id, planned in unique.items()
    )


def _shortener(labels: Iterable[Labels]) -> Callable[[Labels], Labels]:
    """Shortens what can be: in all tables of a report, each name still means one thing."""
    full: dict[str, dict[str, None]] = {axis: {} for axis in SHORTENED}
    for one in labels:
        for axis, texts in full.items():
            texts[one[axis]] = None
    short = {axis: short_names(axis, texts) for axis, texts in full.items()}
    return lambda one: {axis: short.get(axis, {}).get(text, text) for axis, text in one.items()}


def is_autoencoder(entries: Iterable[Entry]) -> bool:
    """True if trials bound the likelihood from below instead of computing it."""
    return any(entry.planned.trial.model.posterior is not None for entry in entries)


def backends_of(entries: Iterable[Entry]) -> tuple[str, ...]:
    """The backends, in the order of the plan."""
    return tuple(dict.fromkeys(entry.labels["backend"] for entry in entries))


def by_dataset(entries: Iterable[Entry]) -> dict[str, tuple[Entry, ...]]:
    """Splits by dataset, in the order of the plan."""
    members: dict[str, list[Entry]] = {}
    for entry in entries:
        members.setdefault(entry.labels["dataset"], []).append(entry)
    return {dataset: tuple(group) for dataset, group in members.items()}


def settings_note(entries: Sequence[Entry]) -> str:
    """What the short names of one dataset stand for, and what all its trials share."""
    full = [{**label(entry.planned.trial), "gradient": entry.gradient} for entry in entries]
    values = {
        axis: dict.fromkeys(breakable(labels[axis]) for labels in full)
        for axis in (*SHORTENED, *OPTIONAL)
    }
    parts = [
        f"{axis} {'; '.join(texts)}"
        for axis, texts in values.items()
        if axis in SHORTENED or len(texts) == 1
    ]
    return f"{'. '.join(part[0].upper() + part[1:] for part in parts)}."
