"""The trials of a plan joined with their records, and grouped over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from harness.flat import flatten
from harness.labels import label
from harness.plan import Plan, PlannedTrial
from harness.statistics import Summary, summarize
from harness.trial import canonical, encode
from harness_reports.naming import short_names

__all__ = [
    *("Entry", "Group", "anchor", "by_dataset", "common_settings"),
    *("entries_of", "groups_of", "varying"),
]

# In this order they are columns of a table, if they differ within a dataset.
_OPTIONAL = ("model", "training", "evaluation", "gradient", "precision")


@dataclass(frozen=True)
class Entry:
    """One planned trial and its record.

    Arguments:
        planned: The plan's part.
        labels: Short words for its axes, unambiguous within the plan.
        record: Its row of the frame; empty if there is none.
    """

    planned: PlannedTrial
    labels: Mapping[str, str]
    record: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The trial's identity."""
        return self.planned.trial.id

    @property
    def seed(self) -> int:
        """The trial's seed."""
        return self.planned.trial.seed

    @property
    def status(self) -> str:
        """The record's status, else `skipped` or `not run`."""
        if self.planned.state == "skipped":
            return "skipped"
        return str(self.record["status"]) if self.record else "not run"

    @property
    def ok(self) -> bool:
        """True if the trial ended as planned, so that its numbers count."""
        return self.status == "ok"

    @property
    def failed(self) -> bool:
        """True if the trial ran and ended otherwise."""
        return self.status not in ("ok", "skipped", "not run")

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


@dataclass(frozen=True)
class Group:
    """The trials that differ in nothing but the seed.

    Arguments:
        labels: The common labels; `variant` is added where these do not tell two groups apart.
        entries: In order of their seeds.
    """

    labels: Mapping[str, str]
    entries: tuple[Entry, ...]

    def values(self, column: str) -> dict[int, float]:
        """The numbers of the trials that are ok, by seed."""
        found = {entry.seed: entry.number(column) for entry in self.entries if entry.ok}
        return {seed: value for seed, value in found.items() if value is not None}

    def summary(self, column: str) -> Summary | None:
        """Summary of `values`."""
        return summarize(self.values(column).values())

    @property
    def absence(self) -> str:
        """Why there are no numbers: the states of the trials in words."""
        states = [entry.status for entry in self.entries]
        distinct = list(dict.fromkeys(states))
        if len(distinct) == 1:
            return distinct[0].replace("_", " ")
        return ", ".join(f"{states.count(state)} {state.replace('_', ' ')}" for state in distinct)

    @property
    def failed(self) -> bool:
        """True if a trial of the group ended in failure."""
        return any(entry.failed for entry in self.entries)

    def counterpart(self) -> str:
        """Key shared by the groups that differ in the backend only."""
        trial = replace(self.entries[0].planned.trial, seed=0, backend="")
        return canonical(trial)


def anchor(trial_id: str) -> str:
    """Anchor of a trial's details."""
    return f"trial-{trial_id}"


def entries_of(plan: Plan, frame: pd.DataFrame) -> tuple[Entry, ...]:
    """Joins the plan with the records; records of other suites in the same root are left out."""
    records = {
        str(row["trial_id"]): {str(name): value for name, value in row.items()}
        for row in frame.to_dict("records")
    }
    unique = {planned.trial.id: planned for planned in plan.trials}
    full = {trial_id: label(planned.trial) for trial_id, planned in unique.items()}
    short = {
        axis: short_names(axis, [labels[axis] for labels in full.values()])
        for axis in ("solver", "regularizer")
    }
    return tuple(
        Entry(
            planned,
            {**full[trial_id], **{axis: short[axis][full[trial_id][axis]] for axis in short}},
            records.get(trial_id, {}),
        )
        for trial_id, planned in unique.items()
    )


def by_dataset(entries: Iterable[Entry]) -> dict[str, tuple[Entry, ...]]:
    """Splits by dataset, in the order of the plan."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.labels["dataset"], []).append(entry)
    return {name: tuple(members) for name, members in found.items()}


def groups_of(entries: Iterable[Entry]) -> tuple[Group, ...]:
    """Groups over seeds; counterparts of the backends come next to each other.

    Arguments:
        entries: Trials of one dataset.
    """
    members: dict[str, list[Entry]] = {}
    for entry in entries:
        members.setdefault(canonical(replace(entry.planned.trial, seed=0)), []).append(entry)
    found = [
        Group(
            {name: text for name, text in group[0].labels.items() if name != "seed"},
            tuple(sorted(group, key=lambda entry: entry.seed)),
        )
        for group in members.values()
    ]
    return tuple(sorted(_told_apart(found), key=_order(found)))


def common_settings(groups: Sequence[Group]) -> str:
    """What all groups share beside dataset, backend, solver and regularizer, in one line."""
    labels = groups[0].labels
    shared = [name for name in _OPTIONAL if name in labels and name not in varying(groups)]
    return "; ".join(f"{name} {labels[name]}" for name in shared)


def varying(groups: Sequence[Group]) -> tuple[str, ...]:
    """Names of the optional labels that differ between groups."""
    names = (*_OPTIONAL, "variant")
    return tuple(
        name for name in names if len({group.labels.get(name, "") for group in groups}) > 1
    )


def _order(groups: Sequence[Group]) -> Callable[[Group], tuple[int, ...]]:
    """Sorts by solver, regularizer, counterpart and backend, each as the plan first names them."""
    ranks: tuple[dict[str, int], ...] = ({}, {}, {}, {})
    for group in groups:
        for rank, word in zip(ranks, _sorting_words(group), strict=True):
            rank.setdefault(word, len(rank))
    return lambda group: tuple(
        rank[word] for rank, word in zip(ranks, _sorting_words(group), strict=True)
    )


def _sorting_words(group: Group) -> tuple[str, str, str, str]:
    labels = group.labels
    return labels["solver"], labels["regularizer"], group.counterpart(), labels["backend"]


def _told_apart(groups: Sequence[Group]) -> list[Group]:
    """Adds the label `variant` to groups whose labels are equal although their specs are not."""
    alike: dict[tuple[tuple[str, str], ...], list[Group]] = {}
    for group in groups:
        alike.setdefault(tuple(group.labels.items()), []).append(group)
    return [
        group if len(same) == 1 else replace(group, labels={**group.labels, "variant": variant})
        for same in alike.values()
        for group, variant in zip(same, _differences(same), strict=True)
    ]


def _differences(groups: Sequence[Group]) -> list[str]:
    specs = [flatten(encode(group.entries[0].planned.trial)) for group in groups]
    names = sorted({name for spec in specs for name in spec} - {"seed"})
    differing = [name for name in names if len({str(spec.get(name)) for spec in specs}) > 1]
    return [", ".join(f"{name}={spec.get(name)}" for name in differing) for spec in specs]
