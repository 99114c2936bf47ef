"""Backends timed side by side, as tables and sentences see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.labels import label
from harness.planning.plan import Plan
from harness.planning.settings import Setting, settings_of
from harness.records.timings import ACTIVITIES, Activity, Point, TimingRecord, read_timings
from harness.statistics import Interval
from harness_reports.page.numbers import fixed

__all__ = [
    "ACTIVITY_NAMES",
    "Timed",
    "hardware_words",
    "ratio_text",
    "speed_sentences",
    "speed_verdict",
    "timings_of",
]

ACTIVITY_NAMES: dict[Activity, str] = {
    "train_step": "training step",
    "evaluation": "evaluation",
    "sampling": "sampling",
}

_CALLS: dict[Activity, str] = {
    "train_step": "a training step",
    "evaluation": "an evaluation",
    "sampling": "a sampling",
}


@dataclass(frozen=True)
class Timed:
    """A setting of the plan and what its timing on one kind of hardware says."""

    setting: Setting
    record: TimingRecord

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.setting.trial.dataset.name

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Pairs of backends (over, under): every other one over the first."""
        first, *others = self.record.backends
        return tuple((other, first) for other in others)

    @property
    def gradients(self) -> str:
        """The gradient mode of the training steps, of each backend where they differ."""
        modes = {name: timing.gradient for name, timing in self.record.backends.items()}
        if len(set(modes.values())) == 1:
            return next(iter(modes.values()))
        return ", ".join(f"{name} {mode}" for name, mode in modes.items())


def timings_of(plan: Plan, root: Path | None) -> tuple[Timed, ...]:
    """The timings of a plan's settings, in the order of the plan.

    Arguments:
        plan: The plan.
        root: The run root, where timings lie; None gives none.

    Raises:
        RecordError: Timings are damaged; it names all of them.
    """
    if root is None:
        return ()
    settings = {setting.id: setting for setting in settings_of(plan)}
    timings = [Timed(settings[r.setting_id], r) for r in read_timings(root, settings)]
    order = {name: number for number, name in enumerate(settings)}
    return tuple(sorted(timings, key=lambda timed: order[timed.setting.id]))


def speed_sentences(timings: Sequence[Timed]) -> list[str]:
    """How fast the backends are beside each other on trained arrays, a sentence for each dataset,
    pair of backends and kind of hardware; none where nothing was timed.

    Example:
        `On moons jax takes 0.62x [0.58, 0.66] of torch's time for a training step, ... (20
        rounds, dopri5 rtol=1e-05 atol=1e-05, gradient direct; 2 cores of Invented CPU).` Of
        several settings the lowest and the highest ratio are said. A verdict is in the table, not
        here.
    """
    groups: dict[tuple[str, str, str, str], list[Timed]] = {}
    for timed in timings:
        if timed.record.ok:
            for over, under in timed.pairs:
                key = (timed.dataset, timed.record.hardware, over, under)
                groups.setdefault(key, []).append(timed)
    return [
        f"On {dataset} {_sentence(members, over, under)}"
        for (dataset, _, over, under), members in groups.items()
    ]


def _sentence(members: Sequence[Timed], over: str, under: str) -> str:
    first, *others = (
        f"{_extent(members, over, under, activity)}{{}} for {_CALLS[activity]}"
        for activity in ACTIVITIES
    )
    ratios = ", ".join(
        [first.format(f" of {under}'s time"), *(text.format("") for text in others)]
    )
    counts = [
        ratio.n for ratio in _ratios(members, over, under, "train_step") if ratio is not None
    ]
    notes = [f"{_range([str(n) for n in sorted(counts)])} rounds"]
    if len(members) == 1:
        notes.append(label(members[0].setting.trial)["solver"])
    else:
        notes[0] = f"{len(members)} settings, {notes[0]} each"
    notes.append(f"gradient {'; '.join(dict.fromkeys(timed.gradients for timed in members))}")
    disturbed = sum(timed.record.disturbed("trained") for timed in members)
    if disturbed:
        notes.append("disturbed" if len(members) == 1 else f"{disturbed} disturbed")
    return f"{over} takes {ratios} ({', '.join(notes)}; {hardware_words(members[0])})."


def _extent(members: Sequence[Timed], over: str, under: str, activity: Activity) -> str:
    """The ratio of one setting with its interval, or the lowest and highest of several."""
    ratios = [ratio for ratio in _ratios(members, over, under, activity) if ratio is not None]
    if len(members) == 1:
        return ratio_text(ratios[0], "x")
    return _range([fixed(each, 2) + "x" for each in sorted(ratio.estimate for ratio in ratios)])


def _ratios(
    members: Sequence[Timed], over: str, under: str, activity: Activity
) -> Iterator[Interval | None]:
    return (timed.record.ratio("trained", activity, over, under) for timed in members)


def _range(ordered: Sequence[str]) -> str:
    first, last = ordered[0], ordered[-1]
    return first if first == last else f"{first} to {last}"


def ratio_text(ratio: Interval, sign: str = "") -> str:
    """`0.62 [0.58, 0.66]`, with a sign after the ratio; alone where it has no interval."""
    text = f"{fixed(ratio.estimate, 2)}{sign}"
    if ratio.low is None or ratio.high is None:
        return text
    return f"{text} [{fixed(ratio.low, 2)}, {fixed(ratio.high, 2)}]"


def speed_verdict(timed: Timed, arrays: Point, over: str, under: str) -> str:
    """Words for the ratio of the training steps on some arrays."""
    ratio = timed.record.ratio(arrays, "train_step", over, under)
    if ratio is None or ratio.low is None:
        return "too few rounds"
    if timed.record.disturbed(arrays):
        return "no verdict: disturbed"
    if not ratio.excludes(1.0):
        return "no difference detected"
    return f"{over if ratio.estimate < 1 else under} faster"


def hardware_words(timed: Timed) -> str:
    """What a timing ran on."""
    environment = next(iter(timed.record.backends.values())).environment
    cores = timed.record.cores
    gpu = environment.get("gpu")
    model = f"{cores} {'core' if cores == 1 else 'cores'} of {environment.get('cpu_model')}"
    return f"{gpu}, {model}" if gpu else model
