"""Timings: backends side by side in one setting, on one kind of hardware.

    <root>/timings/<setting_id>-<hardware fingerprint>/
        timing.json     the commit point: the first commit wins
        replaced-<ms>/  what a later run set aside

A setting is a trial without its backend and seed. Only finished measurements are committed, failed
ones among them: whoever is interrupted leaves nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.errors import RecordError
from harness.records.files import commit, dumps, now, set_aside, storing
from harness.records.folder import Damaged
from harness.records.readers import SCHEMA_VERSION, read_object, require_version
from harness.specs.bounds import Count, NonNegative
from harness.statistics import Interval, median_interval

__all__ = [
    "ACTIVITIES",
    "POINTS",
    "Activity",
    "BackendTiming",
    "Point",
    "Round",
    "TimingFolder",
    "TimingRecord",
    "read_timings",
]

Activity = Literal["train_step", "evaluation", "sampling"]
Point = Literal["trained", "initial"]
ACTIVITIES: tuple[Activity, ...] = ("train_step", "evaluation", "sampling")
POINTS: tuple[Point, ...] = ("trained", "initial")
"""Sets of arrays that are timed, since the evaluations of a solve grow while a flow trains."""

_FORM: dict[str, Any] = {"strict": True}
_NAME = re.compile("[0-9a-f]{16}-[0-9a-f]{12}")


@dataclass(frozen=True)
class BackendTiming:
    """What a backend said of itself beside its rounds.

    Arguments:
        trial_id: The trial whose spec, choices and gradient mode it was opened with.
        gradient: The gradient mode of its training steps, never `auto`.
        choices: Its other choices, as whether it compiles.
        cold_s: Seconds to compile and take the first training step with empty compilation caches.
        warm_s: The same with the caches that this left.
        step_bytes: Host memory of a training step above what the process held before it.
        peak_host_bytes: Largest resident size of its process, compilation included.
        peak_device_bytes: Largest memory on the device.
        nfe: Evaluations by arrays, activity and kind, summed over blocks, mean over rounds.
        error_nats: Largest difference of log p from the reference, by arrays.
        environment: Where it ran (`harness.process.environment`).
    """

    __pydantic_config__ = _FORM

    trial_id: str
    gradient: str
    choices: Mapping[str, str]
    cold_s: NonNegative
    warm_s: NonNegative
    step_bytes: int | None
    peak_host_bytes: int
    peak_device_bytes: int | None
    nfe: Mapping[Point, Mapping[Activity, Mapping[str, float]]]
    error_nats: Mapping[Point, float | None]
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Round:
    """One turn of all backends on the same arrays and the same batch.

    Arguments:
        arrays: Which arrays.
        seconds: Of one call, by backend and activity.
        disturbed: What disturbed it; None if nothing did.
        machine: Processor time of the round, of its processes and of others.
    """

    __pydantic_config__ = _FORM

    arrays: Point
    seconds: Mapping[str, Mapping[Activity, float]]
    disturbed: str | None
    machine: Mapping[str, float | None]


@dataclass(frozen=True)
class TimingRecord:
    """The timing of one setting on one kind of hardware.

    Arguments:
        setting_id: The setting.
        hardware: Hardware fingerprint.
        status: `ok`; `error` or `not_timed`, of which the budget was spent before: no numbers, and
            the message says why.
        message: Why, or what is worth knowing.
        seed: Seed of the trials whose arrays, batches and noise it used.
        trained_by: Id of the trial that trained the arrays.
        cores: Cores that every backend was pinned to.
        reference: What log p was held against.
        backends: What each backend said of itself, in the order of the plan.
        rounds: In the order in which they were taken.
        finished_ms: When it was committed.
    """

    __pydantic_config__ = _FORM

    setting_id: str
    hardware: str
    status: Literal["ok", "error", "not_timed"]
    message: str | None
    seed: int
    trained_by: str
    cores: Count
    reference: str | None = None
    backends: Mapping[str, BackendTiming] = field(default_factory=dict)
    rounds: tuple[Round, ...] = ()
    finished_ms: int = 0

    @property
    def ok(self) -> bool:
        """True if there are numbers."""
        return self.status == "ok"

    def of(self, arrays: Point) -> tuple[tuple[Round, ...], int]:
        """The rounds of some arrays that count, and how many there were in all.

        Those that nothing disturbed, if they are enough for an interval; otherwise all.
        """
        taken = tuple(each for each in self.rounds if each.arrays == arrays)
        quiet = tuple(each for each in taken if each.disturbed is None)
        return (quiet if self._enough(quiet) else taken), len(taken)

    def disturbed(self, arrays: Point) -> bool:
        """True if disturbed rounds count, for want of others."""
        return any(each.disturbed is not None for each in self.of(arrays)[0])

    def ratio(self, arrays: Point, activity: Activity, over: str, under: str) -> Interval | None:
        """Median over rounds of the seconds of backend `over`, as a share of those of `under`."""
        ratios = [
            each.seconds[over][activity] / each.seconds[under][activity]
            for each in self.of(arrays)[0]
        ]
        return median_interval(ratios)

    @staticmethod
    def _enough(rounds: tuple[Round, ...]) -> bool:
        interval = median_interval([0.0] * len(rounds))
        return interval is not None and interval.low is not None


@dataclass(frozen=True)
class TimingFolder:
    """Where the timing of a setting on one kind of hardware lies.

    Arguments:
        root: The run root.
        setting_id: The setting.
        hardware: Hardware fingerprint.
    """

    root: Path
    setting_id: str
    hardware: str

    @property
    def path(self) -> Path:
        """The folder."""
        return self.root / "timings" / f"{self.setting_id}-{self.hardware}"

    @property
    def record(self) -> Path:
        """The commit point."""
        return self.path / "timing.json"

    def read(self) -> TimingRecord | None:
        """The record; None if nothing was committed.

        Raises:
            RecordError: It is damaged, of a later version, or of another setting or hardware.
        """
        remedy = f"remove {self.path}, and run the suite again"
        values = read_object(self.record, remedy)
        if values is None:
            return None
        require_version(self.record, values)
        record = _checked(self.record, values, remedy)
        if (record.setting_id, record.hardware) != (self.setting_id, self.hardware):
            raise RecordError(
                f"{self.record}: the timing of {record.setting_id}-{record.hardware}; {remedy}"
            )
        return record

    def commit(self, record: TimingRecord) -> bool:
        """Commits a timing; False if another was committed before."""
        with storing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        values = {"schema_version": SCHEMA_VERSION, **asdict(record), "finished_ms": now()}
        return commit(self.record, dumps(values, indent=1))

    def set_aside(self) -> None:
        """Makes room for another timing; what was there is kept beside."""
        set_aside(self.path, [self.record])


def read_timings(root: Path, settings: Iterable[str]) -> Iterator[TimingRecord]:
    """Yields the timings of some settings under a run root, by setting and hardware.

    Raises:
        RecordError: After the last: it names all that are damaged.
    """
    wanted, damaged = set(settings), Damaged()
    for name in _names(root / "timings"):
        setting_id, _, hardware = name.partition("-")
        if setting_id in wanted:
            with damaged:
                record = TimingFolder(root, setting_id, hardware).read()
                if record is not None:
                    yield record
    damaged.refuse()


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"{folder}: cannot be read: {error.strerror}") from error


def _checked(path: Path, values: Mapping[str, Any], remedy: str) -> TimingRecord:
    """The record that values are, of known types and complete.

    Raises:
        RecordError: They are none.
    """
    # A worker imports this package and needs no pydantic.
    from pydantic import TypeAdapter, ValidationError

    try:
        # From text: lists and objects become tuples and dataclasses there, and nothing else does.
        record = TypeAdapter(TimingRecord).validate_json(dumps(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RecordError(f"{path}: '{place}': {first['msg']}; {remedy}") from error
    for number, each in enumerate(record.rounds):
        _require_whole(path, record, number, each, remedy)
    return record


def _require_whole(
    path: Path, record: TimingRecord, number: int, each: Round, remedy: str
) -> None:
    for backend in record.backends:
        seconds = each.seconds.get(backend, {})
        missing = [activity for activity in ACTIVITIES if not seconds.get(activity, 0.0) > 0]
        if missing:
            raise RecordError(
                f"{path}: 'rounds.{number}' has no seconds of {backend}'s {missing[0]}; {remedy}"
            )
