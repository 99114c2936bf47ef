"""The trials of one dataset, grouped over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.records.columns import flatten
from harness.statistics import Summary, summarize
from harness.trial import encode
from harness_reports.page.naming import SHORTENED
from harness_reports.trials.entries import OPTIONAL, Entry

__all__ = ["SEPARATOR", "Group", "groups_of", "setting_names"]

SEPARATOR = " · "
"""Between the settings of a title."""


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
        numbers = {entry.seed: entry.number(column) for entry in self.entries if entry.ok}
        return {seed: value for seed, value in numbers.items() if value is not None}

    def summary(self, column: str) -> Summary | None:
        """Summary of `values`."""
        return summarize(self.values(column).values())

    def settings(self, names: Iterable[str]) -> tuple[str, ...]:
        """The labels of these names (`setting_names`), empty where the group has none."""
        return tuple(self._setting(name) for name in names)

    def _setting(self, name: str) -> str:
        if name == "gradient" and self.labels[name] == "auto":
            chosen = [entry.gradient for entry in self.entries if entry.record]
            return ", ".join(dict.fromkeys(chosen)) or "auto"
        return self.labels.get(name, "")

    def title(self, names: Iterable[str]) -> str:
        """The same in one line."""
        return SEPARATOR.join(self.settings(names))

    @property
    def absence(self) -> str:
        """Why a number is missing: the states of the trials in words, `not run` if some are ok."""
        if any(entry.ok for entry in self.entries):
            return "not run"
        states = [entry.state for entry in self.entries]
        distinct = list(dict.fromkeys(states))
        if len(distinct) == 1:
            return distinct[0]
        return ", ".join(f"{states.count(state)} {state}" for state in distinct)

    @property
    def failed(self) -> bool:
        """True if a trial of the group ended in failure."""
        return any(entry.failed for entry in self.entries)

    def counterpart(self) -> str:
        """Key shared by the groups that differ in the backend only."""
        return self.entries[0].counterpart_key


def groups_of(entries: Iterable[Entry]) -> tuple[Group, ...]:
    """Groups over seeds; counterparts of the backends come next to each other.

    Arguments:
        entries: Trials of one dataset.
    """
    members: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        members.setdefault(entry.settings_key, []).append(entry)
    groups = [
        Group(
            {name: text for name, text in group[0].labels.items() if name != "seed"},
            tuple(sorted(group, key=lambda entry: entry.seed)),
        )
        for group in members.values()
    ]
    return tuple(sorted(_with_variants(groups), key=_order(groups)))


def setting_names(groups: Iterable[Group]) -> tuple[str, ...]:
    """Names of the labels that tell settings of a dataset apart.

    Those are the shortened axes, and what else differs within a dataset.
    """
    values: dict[tuple[str, str], set[str]] = {}
    for group in groups:
        for name in (*OPTIONAL, "variant"):
            labels = values.setdefault((group.labels["dataset"], name), set())
            labels.add(group.labels.get(name, ""))
    differing = {name for (_, name), texts in values.items() if len(texts) > 1}
    return (*SHORTENED, *(name for name in (*OPTIONAL, "variant") if name in differing))


def _order(groups: Sequence[Group]) -> Callable[[Group], tuple[int, ...]]:
    """Sorts by solver, regularizer, counterpart and backend, each as the plan first names them."""
    columns = zip(*map(_sorting_words, groups), strict=True)
    ranks = [{word: rank for rank, word in enumerate(dict.fromkeys(column))} for column in columns]
    return lambda group: tuple(
        rank[word] for rank, word in zip(ranks, _sorting_words(group), strict=True)
    )


def _sorting_words(group: Group) -> tuple[str, ...]:
    return (*group.settings(SHORTENED), group.counterpart(), group.labels["backend"])


def _with_variants(groups: Sequence[Group]) -> list[Group]:
    """Adds the label `variant` to groups whose labels are equal although their specs are not."""
    alike: dict[tuple[tuple[str, str], ...], list[Group]] = {}
    for group in groups:
        alike.setdefault(tuple(group.labels.items()), []).append(group)
    named: list[Group] = []
    for same in alike.values():
        if len(same) == 1:
            named += same
            continue
        for group, variant in zip(same, _differences(same), strict=True):
            named.append(replace(group, labels={**group.labels, "variant": variant}))
    return named


def _differences(groups: Sequence[Group]) -> list[str]:
    """For each group, the values of its spec that another group does not share."""
    specs = [flatten(encode(group.entries[0].planned.trial)) for group in groups]
    names = sorted({name for spec in specs for name in spec} - {"seed"})
    differing = [name for name in names if len({str(spec.get(name)) for spec in specs}) > 1]
    return [", ".join(f"{name}={spec.get(name)}" for name in differing) for spec in specs]
