"""Whether two backends of one run differ: one margin for each question of a report.

A difference between backends is judged against a margin, by tests in both directions: the *same*
if it is certain to lie within, *better* or *faster* if it is certain to lie beyond, *undecided*
otherwise. So a difference that is certain and of no size is none, and two seeds give an answer
where the backends agree far more closely than the margin.

The margin of a quality is the larger of two: the bar that one training loss of both backends keeps
in single precision (docs/numerics.md, section 11), and a tenth of what another seed changes.
`harness verify` and `harness compare`, which ask whether a run repeats another, have a share of
their own (`harness.comparison.agreement`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.records.verified import TOLERANCE
from harness.statistics import Interval, equivalence_test, holm, mean_interval
from harness_reports.trials.entries import Entry, by_dataset
from harness_reports.trials.groups import Group, groups_of
from harness_reports.trials.pairs import Pair, pairs_of
from harness_reports.trials.quantities import Quantity, quantity_of

__all__ = [
    *("CORRECTION", "LEVEL", "PARITY_BAR", "SEED_SHARE", "SPEED_MARGIN"),
    *("Comparison", "Outcome", "compare", "margin_of", "outcomes", "seed_spread"),
]

PARITY_BAR = TOLERANCE["float32"]
"""Smallest margin of a likelihood, in its unit."""

SEED_SHARE = 0.1
"""The margin as a share of the standard deviation over seeds, where that is larger."""

SPEED_MARGIN = 0.05
"""Ratios of times closer to 1 than this count as the same speed."""

LEVEL = 0.05
"""Chance that any verdict of a table is wrong, all its comparisons together."""

CORRECTION = "Holm"

Outcome = Literal["same", "lower", "higher", "undecided", "one pair", "no pair"]


def outcomes(samples: Sequence[Sequence[float]], margins: Sequence[float]) -> list[Outcome]:
    """Judges several comparisons together, corrected for their number.

    Arguments:
        samples: For each comparison the differences, first minus second, one a pair.
        margins: For each comparison, the largest difference that counts as none.

    Returns:
        `lower` where the first is lower beyond the margin, `higher` where it is higher.
    """
    tests = [equivalence_test(*each) for each in zip(samples, margins, strict=True)]
    tested = [index for index, test in enumerate(tests) if test is not None]
    within = dict(zip(tested, holm([t.within for t in tests if t is not None]), strict=True))
    beyond = dict(zip(tested, holm([t.beyond for t in tests if t is not None]), strict=True))

    def outcome(index: int) -> Outcome:
        if index not in within:
            return "one pair" if samples[index] else "no pair"
        if within[index] < LEVEL:
            return "same"
        if beyond[index] < LEVEL:
            return "lower" if math.fsum(samples[index]) < 0 else "higher"
        return "undecided"

    return [outcome(index) for index in range(len(samples))]


@dataclass(frozen=True)
class Comparison:
    """The quality of two backends on the seeds that both have.

    Arguments:
        dataset: The dataset's name.
        pair: The two groups.
        quantity: What is compared; lower is better.
        differences: First minus second, by seed, in the quantity's unit.
        margin: The largest difference that counts as none.
        spread: What another seed changes, None if that is not known.
        outcome: The verdict.
    """

    dataset: str
    pair: Pair
    quantity: Quantity
    differences: tuple[float, ...]
    margin: float
    spread: float | None
    outcome: Outcome

    @property
    def interval(self) -> Interval | None:
        """Mean difference with its 95 % interval."""
        return mean_interval(self.differences)

    @property
    def width(self) -> float:
        """Half-width of that interval; infinite for fewer than two pairs."""
        interval = self.interval
        if interval is None or interval.low is None or interval.high is None:
            return math.inf
        return (interval.high - interval.low) / 2

    @property
    def better(self) -> str | None:
        """Name of the backend that is better, if one is."""
        if self.outcome not in ("lower", "higher"):
            return None
        return self.pair.names[0 if self.outcome == "lower" else 1]

    @property
    def planned(self) -> int:
        """Seeds that the plan has for both backends."""
        first, second = ({entry.seed for entry in group.entries} for group in self.pair.groups)
        return len(first & second)

    @property
    def complete(self) -> bool:
        """True if every planned seed of both backends ended ok."""
        return len(self.differences) == self.planned


_Part: TypeAlias = tuple[str, Pair, Quantity, tuple[float, ...], float, float | None]


def compare(entries: Iterable[Entry]) -> tuple[Comparison, ...]:
    """Compares the quality of every pair of backends, corrected for the number of pairs."""
    parts: list[_Part] = []
    for dataset, members in by_dataset(entries).items():
        quantity, groups = quantity_of(members), groups_of(members)
        spread = seed_spread(groups, quantity)
        margin = margin_of(spread)
        for pair in pairs_of(members):
            matched = pair.matched(quantity.column)
            differences = tuple(a - b for a, b in matched)
            parts.append((dataset, pair, quantity, differences, margin, spread))
    verdicts = outcomes([part[3] for part in parts], [part[4] for part in parts])
    return tuple(Comparison(*part, outcome) for part, outcome in zip(parts, verdicts, strict=True))


def seed_spread(groups: Iterable[Group], quantity: Quantity) -> float | None:
    """What another seed changes: the median standard deviation over seeds; None if unknown."""
    spreads = [s.sd for group in groups if (s := group.summary(quantity.column)) and s.sd]
    return statistics.median(spreads) if spreads else None


def margin_of(spread: float | None) -> float:
    """The margin beside a spread over seeds, rounded down to one digit, so that it can be read."""
    share = SEED_SHARE * (spread or 0.0)
    if share <= PARITY_BAR:
        return PARITY_BAR
    unit = 10.0 ** math.floor(math.log10(share))
    return float(f"{math.floor(share / unit) * unit:.0e}")
