"""Which backend is faster: only timings that had the machine to themselves, on one machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.statistics import Interval, paired_ratio
from harness.text import counted
from harness_reports.page.elements import Block, Cell, Column, Row, Table
from harness_reports.page.numbers import fixed
from harness_reports.trials.comparisons import CORRECTION, SPEED_MARGIN, Outcome, outcomes
from harness_reports.trials.entries import FINGERPRINT, Entry, by_dataset
from harness_reports.trials.groups import setting_names
from harness_reports.trials.pairs import Pair, pairs_of

__all__ = ["STEP", "speed_blocks", "step_time_sentences"]

STEP = "timing.step_s.median"
"""Column of the median training step of a trial, in seconds."""

_NOTE = (
    "Ratio of the median training step times, first backend over second, geometric mean over "
    "seeds ± the 95 % t interval of its logarithm. Only timings that had the machine to "
    "themselves (mode exclusive), in pairs on one hardware fingerprint. Within "
    f"{SPEED_MARGIN:.0%} the speed is the same; several rows are corrected ({CORRECTION})."
)


@dataclass(frozen=True)
class _Race:
    """Two backends on one setting, timed fairly."""

    dataset: str
    pair: Pair
    ratio: Interval
    outcome: Outcome

    @property
    def words(self) -> str:
        first, second = self.pair.names
        if self.outcome == "same":
            return f"same within {SPEED_MARGIN:.0%}"
        if self.outcome in ("lower", "higher"):
            return f"{first if self.outcome == 'lower' else second} faster"
        return self.outcome


def step_time_sentences(entries: Sequence[Entry], run_alone: str) -> tuple[str, ...]:
    """The ratio of step times with its interval, or why there is none and how to measure it.

    Arguments:
        entries: The trials of the plan.
        run_alone: The command that times the trials one at a time.
    """
    races = _races(entries)
    if races:
        return tuple(
            f"{race.dataset}, {race.pair.first.title(('solver', 'regularizer'))}: "
            f"{race.words}, {_ratio_words(race)}."
            for race in races
        )
    pairs = [pair for members in by_dataset(entries).values() for pair in pairs_of(members)]
    if not pairs:
        return ()
    return (f"Not known: {_why_unfair(pairs)}", f"To measure it: {run_alone}")


def speed_blocks(entries: Sequence[Entry]) -> Iterator[Block]:
    """One row a pair that was timed fairly."""
    races = _races(entries)
    if not races:
        return
    names = setting_names([group for race in races for group in race.pair.groups])
    columns = (
        Column("dataset", heading=True),
        Column("verdict"),
        Column("ratio of step times", "95 % interval", numeric=True),
        *(Column(name) for name in names),
        Column("first / second"),
        Column("pairs", numeric=True),
    )
    rows = tuple(
        Row(
            (
                Cell(race.dataset),
                Cell(race.words, tone="muted" if race.outcome in _UNSURE else ""),
                Cell(_ratio_words(race), value=race.ratio.estimate),
                *map(Cell, race.pair.first.settings(names)),
                Cell(" / ".join(race.pair.names)),
                Cell(str(race.ratio.n), value=race.ratio.n),
            )
        )
        for race in races
    )
    yield Table("speed-table", "Speed", columns, rows, _NOTE, sortable=len(rows) > 1)


_UNSURE = ("undecided", "one pair")


def _races(entries: Sequence[Entry]) -> list[_Race]:
    timed = [
        (dataset, pair, matched)
        for dataset, members in by_dataset(entries).items()
        for pair in pairs_of(members)
        if (matched := pair.matched(STEP, pair.fair_seeds()))
    ]
    logs = [[math.log(a) - math.log(b) for a, b in matched] for _, _, matched in timed]
    verdicts = outcomes(logs, [math.log1p(SPEED_MARGIN)] * len(timed))
    races = []
    for (dataset, pair, matched), outcome in zip(timed, verdicts, strict=True):
        ratio = paired_ratio([a for a, _ in matched], [b for _, b in matched])
        if ratio is not None:
            races.append(_Race(dataset, pair, ratio, outcome))
    return races


def _ratio_words(race: _Race) -> str:
    text = f"{'/'.join(race.pair.names)} = {fixed(race.ratio.estimate, 2)}"
    if race.ratio.low is None or race.ratio.high is None:
        return f"{text} (one pair)"
    return f"{text} [{fixed(race.ratio.low, 2)}, {fixed(race.ratio.high, 2)}]"


def _why_unfair(pairs: Sequence[Pair]) -> str:
    timed = [
        entry
        for pair in pairs
        for group in pair.groups
        for entry in group.entries
        if entry.ok and entry.number(STEP) is not None
    ]
    if not timed:
        return "no trial was timed."
    shared = sum(not entry.exclusive for entry in timed)
    if shared:
        return (
            f"speed was not measured alone, {shared} of {counted(len(timed), 'timing')} shared "
            "the machine with other trials."
        )
    prints = counted(len({entry.text(FINGERPRINT) for entry in timed}), "hardware fingerprint")
    return f"the backends ran on different machines ({prints}); speeds compare only within one."
