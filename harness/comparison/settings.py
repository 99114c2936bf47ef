"""The records of two sides, paired: by setting, and within a setting by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.comparison.spread import quality_of
from harness.labels import MAIN_AXES, label
from harness.records.folder import Record
from harness.records.status import Status
from harness.trial import AXES

__all__ = ["Across", "Setting", "pair_settings"]


@dataclass(frozen=True)
class Across:
    """An axis on which the two sides differ by intention.

    Arguments:
        axis: Its name.
        first: Its value on the first side.
        second: Its value on the second side.
    """

    axis: str
    first: str
    second: str


@dataclass(frozen=True)
class Setting:
    """One setting and its records on both sides, by seed.

    Arguments:
        labels: The axes that both sides share, by name, without the seed.
        first: Records of the first side.
        second: Records of the second side.
    """

    labels: Mapping[str, str]
    first: Mapping[int, Record]
    second: Mapping[int, Record]

    @property
    def name(self) -> str:
        """The main axes in one line."""
        return " ".join(self.labels[axis] for axis in MAIN_AXES if axis in self.labels)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that both sides have, on the same data."""
        return tuple(
            seed
            for seed in sorted(self.first.keys() & self.second.keys())
            if self.first[seed].trial.dataset == self.second[seed].trial.dataset
        )

    @property
    def failed(self) -> tuple[int, int]:
        """How many of the common seeds did not end ok, on either side."""
        first, second = (
            sum(Status(side[seed].result["status"]) is not Status.OK for seed in self.seeds)
            for side in (self.first, self.second)
        )
        return first, second

    def quality(self) -> list[tuple[float, float]]:
        """Results of both sides in nats, for the seeds where both have one."""
        return self._pairs(quality_of)

    def step_seconds(self) -> list[tuple[float, float]]:
        """Median training steps of both sides in seconds, for the seeds where both ended ok."""
        return self._pairs(_step_seconds)

    def unfair(self) -> str | None:
        """Why its timings do not compare: they were shared, or taken on different hardware."""
        for seed in self.seeds:
            sides = (self.first[seed].result, self.second[seed].result)
            modes = {(side.get("timing") or {}).get("mode") for side in sides}
            if modes != {"exclusive"}:
                return "timings shared the machine; run with --exclusive"
            prints = [
                (side.get("environment") or {}).get("hardware_fingerprint") for side in sides
            ]
            if prints[0] is None or prints[0] != prints[1]:
                return "the hardware differs"
        return None

    def _pairs(self, value: Callable[[Record], float | None]) -> list[tuple[float, float]]:
        pairs = ((value(self.first[seed]), value(self.second[seed])) for seed in self.seeds)
        return [(a, b) for a, b in pairs if a is not None and b is not None]


def pair_settings(
    first: Iterable[Record], second: Iterable[Record], across: Across | None = None
) -> list[Setting]:
    """Every setting of either side, in the order of the first; one may lack a side.

    Arguments:
        first: Records of the first side.
        second: Records of the second side.
        across: Where the sides differ by intention; None if they agree on all axes.
    """
    names = [axis for axis in AXES if axis != "seed" and (across is None or axis != across.axis)]
    only = (None, None) if across is None else (across.first, across.second)
    axis = None if across is None else across.axis
    sides = (_by_setting(first, names, axis, only[0]), _by_setting(second, names, axis, only[1]))
    return [
        Setting(dict(zip(names, key, strict=True)), sides[0].get(key, {}), sides[1].get(key, {}))
        for key in dict.fromkeys([*sides[0], *sides[1]])
    ]


def _by_setting(
    records: Iterable[Record], names: Iterable[str], axis: str | None, only: str | None
) -> dict[tuple[str, ...], dict[int, Record]]:
    """Records by labels and seed; of several of one trial the newest."""
    by_labels: dict[tuple[str, ...], dict[int, Record]] = {}
    for record in sorted(records, key=lambda each: int(each.result["finished_ms"])):
        labels = label(record.trial)
        if axis is None or labels[axis] == only:
            key = tuple(labels[name] for name in names)
            by_labels.setdefault(key, {})[record.trial.seed] = record
    return dict(sorted(by_labels.items()))


def _step_seconds(record: Record) -> float | None:
    if Status(record.result["status"]) is not Status.OK:
        return None
    steps = (record.result.get("timing") or {}).get("step_s") or {}
    median = steps.get("median")
    return median if median else None
