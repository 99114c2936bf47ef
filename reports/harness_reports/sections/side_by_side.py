"""Speed: the backends side by side, in interleaved rounds on the same arrays."""

from __future__ import annotations

from collections.abc import Sequence

from harness.planning.settings import setting_id
from harness.records.timings import ACTIVITIES, POINTS, Activity, BackendTiming, Point
from harness_reports.page.elements import (
    Block,
    Cell,
    Column,
    Paragraph,
    Row,
    Section,
    Table,
    absent,
)
from harness_reports.page.numbers import bytes_mib, fixed, seconds
from harness_reports.trials.entries import Entry, by_dataset
from harness_reports.trials.groups import Group, groups_of, setting_names
from harness_reports.trials.speed import (
    ACTIVITY_NAMES,
    Timed,
    hardware_words,
    ratio_text,
    speed_verdict,
)

__all__ = ["side_by_side"]

_RATIOS = (
    "Median over rounds of the ratio of two times of one round, first backend over second, with "
    "the 95 % interval of the sign test. In a round all backends take their calls in turn, in "
    "processes of their own on the same cores, with the same arrays, batches and noise. Rounds "
    "that others disturbed (the process waited for its cores, other processes or guests of the "
    "hypervisor used the machine) count only where fewer than six were quiet; then there is no "
    "verdict. Verdict: of the training step."
)
_NEEDS = (
    "Evaluations of the dynamics in one call, summed over blocks, mean over rounds; of a training "
    "step those of the forward solve, and behind a plus sign those that the backward pass takes. "
    "Error: the largest difference of log p from the reference, {reference}, on the same arrays. "
    "First step: seconds to compile and take the first training step in a new process, cold with "
    "empty compilation caches, warm with the caches that it left. Step memory: what a training "
    "step takes above what the process held before."
)


def side_by_side(entries: Sequence[Entry], timings: Sequence[Timed], planned: bool) -> Section:
    """Tables of every dataset that has timings.

    Arguments:
        entries: The trials.
        timings: What was timed.
        planned: Whether the suite asks for timings.
    """
    if not timings:
        text = "No setting is timed yet: `harness run` does it after the trials."
        if not planned:
            text = "The suite does not time its backends side by side: it has no key `timing`."
        return Section("speed", "Speed", (Paragraph(text, "muted"),))
    blocks: list[Block] = []
    for dataset, members in by_dataset(entries).items():
        of_dataset = [timed for timed in timings if timed.dataset == dataset]
        if of_dataset:
            blocks += _tables(dataset, members, of_dataset)
    reference = next((t.record.reference for t in timings if t.record.reference), "none")
    notes = (_RATIOS, _NEEDS.format(reference=reference))
    return Section("speed", "Speed", (*blocks, *(Paragraph(note, "muted") for note in notes)))


def _tables(dataset: str, entries: Sequence[Entry], timings: Sequence[Timed]) -> list[Block]:
    groups = groups_of(entries)
    names = setting_names(groups)
    of_setting: dict[str, Group] = {}
    for group in groups:
        of_setting.setdefault(setting_id(group.entries[0].planned.trial), group)
    lines = [(of_setting[timed.setting.id].settings(names), timed) for timed in timings]
    measured = [(settings, timed) for settings, timed in lines if timed.record.ok]
    blocks: list[Block] = []
    if measured:
        blocks.append(_ratio_table(dataset, names, measured))
        blocks.append(_needs_table(dataset, names, measured))
    without: dict[str | None, list[str]] = {}
    for settings, timed in lines:
        if not timed.record.ok:
            without.setdefault(timed.record.message, []).append(" · ".join(settings))
    blocks += [
        Paragraph(f"{dataset} · {'; '.join(which)}: no timing. {message}")
        for message, which in without.items()
    ]
    return blocks


_Lines = Sequence[tuple[tuple[str, ...], Timed]]


def _ratio_table(dataset: str, names: Sequence[str], lines: _Lines) -> Table:
    columns = (
        *(Column(name, heading=True) for name in names),
        Column("arrays", heading=True),
        Column("first / second", heading=True),
        *(
            Column(ACTIVITY_NAMES[activity], "ratio of times", numeric=True)
            for activity in ACTIVITIES
        ),
        Column("rounds", numeric=True),
        Column("disturbed", numeric=True),
        Column("gradient"),
        Column("verdict"),
        Column("hardware"),
    )
    rows = [
        Row(
            (
                *map(Cell, settings),
                Cell(point),
                Cell(f"{over} / {under}"),
                *(_ratio(timed, point, activity, over, under) for activity in ACTIVITIES),
                *_rounds(timed, point),
                Cell(timed.gradients),
                _verdict(speed_verdict(timed, point, over, under)),
                Cell(hardware_words(timed)),
            )
        )
        for settings, timed in lines
        for point in POINTS
        for over, under in timed.pairs
    ]
    return Table(f"ratios-{dataset}", f"{dataset}: backends side by side", columns, tuple(rows))


def _ratio(timed: Timed, point: Point, activity: Activity, over: str, under: str) -> Cell:
    ratio = timed.record.ratio(point, activity, over, under)
    return absent() if ratio is None else Cell(ratio_text(ratio))


def _rounds(timed: Timed, point: Point) -> tuple[Cell, Cell]:
    """How many rounds count, and how many of all that were taken were disturbed."""
    counting, taken = timed.record.of(point)
    disturbed = sum(
        each.disturbed is not None for each in timed.record.rounds if each.arrays == point
    )
    return Cell(str(len(counting))), Cell(f"{disturbed} of {taken}")


def _verdict(words: str) -> Cell:
    return Cell(words, tone="muted" if words.startswith(("no ", "too ")) else "")


def _needs_table(dataset: str, names: Sequence[str], lines: _Lines) -> Table:
    columns = (
        *(Column(name, heading=True) for name in names),
        Column("arrays", heading=True),
        Column("backend", heading=True),
        *(Column(f"NFE, {ACTIVITY_NAMES[activity]}", numeric=True) for activity in ACTIVITIES),
        Column("error", "nats", numeric=True),
        Column("first step, cold", "s", numeric=True),
        Column("first step, warm", "s", numeric=True),
        Column("step memory", "MiB", numeric=True),
        Column("host memory", "MiB, peak", numeric=True),
        Column("device memory", "MiB, peak", numeric=True),
    )
    rows = [
        Row(
            (
                *map(Cell, settings),
                Cell(point),
                Cell(backend),
                *(_evaluations(needs, point, activity) for activity in ACTIVITIES),
                _error(needs, point),
                *_process(needs, shown=point == POINTS[0]),
            )
        )
        for settings, timed in lines
        for point in POINTS
        for backend, needs in timed.record.backends.items()
    ]
    return Table(f"needs-{dataset}", f"{dataset}: what a call needs", columns, tuple(rows))


def _evaluations(needs: BackendTiming, point: Point, activity: Activity) -> Cell:
    counts = needs.nfe.get(point, {}).get(activity)
    if counts is None:
        return absent()
    forward = fixed(counts.get("forward", 0.0), 1)
    back = counts.get("backward", 0.0) + counts.get("vjp", 0.0) + counts.get("recompute", 0.0)
    return Cell(f"{forward} + {fixed(back, 1)}" if back else forward)


def _error(needs: BackendTiming, point: Point) -> Cell:
    error = needs.error_nats.get(point)
    return absent("no reference") if error is None else Cell(f"{error:.1e}".replace("-", "−"))


def _process(needs: BackendTiming, *, shown: bool) -> tuple[Cell, ...]:
    """What is of the process and not of some arrays: on its first row alone."""
    if not shown:
        return tuple(Cell("") for _ in range(5))
    times = (needs.cold_s, needs.warm_s)
    sizes = (needs.step_bytes, needs.peak_host_bytes, needs.peak_device_bytes)
    return (
        *(Cell(fixed(s, seconds(s))) for s in times),
        *(
            absent(word) if size is None else Cell(bytes_mib(size))
            for size, word in zip(sizes, ("not known", "not known", "no device"), strict=True)
        ),
    )
