"""The verdict on a repetition: the same bits, within the tolerance, within noise, or not the same.

A repetition on other hardware, of other versions or in the other backend rounds differently, and a
training magnifies that. What tells it from another computation is where the curves part: rounding
is not there at the first line, a changed seed, setting or data row is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from harness.comparison.evidence import Curve, Evidence
from harness.comparison.margin import margin_of
from harness.comparison.spread import QUALITY
from harness.interface import Arrays
from harness.records.verified import PARITY_BAR, Parting, Verdict

__all__ = ["Agreement", "judge"]

_GROWTH = 100.0
"""How often the tolerance fits into what rounding may grow to before the first line of a curve."""


@dataclass(frozen=True)
class Agreement:
    """A verdict and what it rests on; the fields are those of `Verification`."""

    verdict: Verdict
    reason: str
    parted: Parting | None = None
    largest: float | None = None
    weights: int | None = None


def judge(recorded: Evidence, again: Evidence, dtype: str, spread: float | None) -> Agreement:
    """Holds a repetition against the record.

    Arguments:
        recorded: What the record has.
        again: What the repetition has.
        dtype: Type of the trial's arrays, `float32` or `float64`.
        spread: Standard deviation of the result over seeds, None if it is not known.
    """
    if again.status != recorded.status:
        why = f": {again.message}" if again.message else ""
        return Agreement(
            "not_same", f"recorded as {recorded.status}, now {again.status.replace('_', ' ')}{why}"
        )
    parting = _parting(recorded.curve, again.curve, 0.0)
    largest, worst = _largest(recorded.metrics, again.metrics)
    weights, models = _weights(recorded, again)

    def agreement(verdict: Verdict, reason: str) -> Agreement:
        return Agreement(verdict, reason, parting, largest, weights)

    if recorded.metrics.keys() != again.metrics.keys():
        odd = ", ".join(sorted(recorded.metrics.keys() ^ again.metrics.keys()))
        return agreement("not_same", f"only one of the two has {odd}")
    same_numbers = (
        parting is None
        and not largest
        and recorded.counts == again.counts
        and recorded.message == again.message
    )
    if same_numbers and not weights:
        return agreement("bitwise", _bitwise(recorded, weights))
    if same_numbers:
        # What computed the same curve and scores has left the same arrays.
        return agreement("not_same", f"the same curve and results, but {models} differ")
    bar = PARITY_BAR[dtype]
    if _parting(recorded.curve, again.curve, bar) is None and (largest or 0.0) <= bar:
        return agreement("within_tolerance", f"metrics and curves agree within {bar:g}")
    return agreement(*_beyond(recorded, again, dtype, spread, worst))


def _beyond(
    recorded: Evidence, again: Evidence, dtype: str, spread: float | None, worst: str | None
) -> tuple[Verdict, str]:
    """The verdict where the tolerance is not kept."""
    bar = PARITY_BAR[dtype]
    first = min((step for step, _ in recorded.curve.keys() & again.curve.keys()), default=None)
    start = {key: value for key, value in recorded.curve.items() if key[0] == first}
    early = _parting(start, again.curve, _GROWTH * bar)
    if first is None:
        return "undecided", "no line of the two curves is of the same step"
    if early is not None:
        return "not_same", f"the curves differ from their first line on, in {early.quantity}"
    name = next((each for each in QUALITY if each in recorded.metrics), None)
    if name is None:
        # It diverged both times: how, is in the curves.
        return "undecided", "no result of a test to compare"
    a, b = recorded.metrics[name], again.metrics[name]
    if a is None or b is None:
        return "not_same", f"{name} is not finite in one of the two"
    difference = abs(a - b)
    if spread is None:
        said = f"{worst} differs beyond {bar:g}" if worst else "the curves part"
        return "undecided", f"{said}, and no other seed says how far noise moves it"
    margin = margin_of((a,), spread, dtype)
    if difference <= margin:
        return "statistically", (
            f"{name} differs by {difference:.2g}; another seed moves it by {spread:.2g}"
        )
    return "not_same", (
        f"{name} differs by {difference:.2g}, more than the margin of {margin:.2g}; another "
        f"seed moves it by {spread:.2g}"
    )


def _bitwise(recorded: Evidence, weights: int | None) -> str:
    parts = [f"{len(recorded.metrics)} metrics", f"{len(recorded.curve)} values of the curves"]
    parts += ["all weights"] if weights is not None else []
    return f"the same bits: {', '.join(parts)}"


def _parting(recorded: Curve, again: Curve, bar: float) -> Parting | None:
    """The first step, of those that both have, at which a value differs by more than the bar."""
    for step, name in sorted(recorded.keys() & again.keys()):
        a, b = recorded[step, name], again[step, name]
        if _distance(a, b) > bar:
            return Parting(step, name, a, b)
    return None


def _largest(
    recorded: Mapping[str, float | None], again: Mapping[str, float | None]
) -> tuple[float | None, str | None]:
    """The largest difference of a metric that both have, and its name."""
    distances = [
        (_distance(recorded[name], again[name]), name) for name in recorded.keys() & again.keys()
    ]
    distance, name = max(distances, default=(None, None))
    return distance, name if distance else None


def _distance(a: float | None, b: float | None) -> float:
    if a is None or b is None:
        return 0.0 if a is b else math.inf
    return abs(a - b) / max(1.0, abs(a))


def _weights(recorded: Evidence, again: Evidence) -> tuple[int | None, str]:
    """How many numbers differ in the model of the two that differs most, and in which."""
    counts = {
        name: sum(_differing(arrays, again.models[name]))
        for name, arrays in recorded.models.items()
        if name in again.models
    }
    if not counts:
        return None, ""
    name = max(counts, key=counts.__getitem__)
    return counts[name], f"{counts[name]:,} of the numbers of {name}"


def _differing(a: Arrays, b: Arrays) -> Iterator[int]:
    for name in a.keys() | b.keys():
        one, other = a.get(name), b.get(name)
        if one is None or other is None or one.shape != other.shape:
            yield max(0 if each is None else each.size for each in (one, other))
        else:
            both_nan = (one != one) & (other != other)
            yield int(np.count_nonzero((one != other) & ~both_nan))
