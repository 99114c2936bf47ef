"""From a suite to its trials: multiply, exclude, drop duplicates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from harness.reading.validation import Problems
from harness.specs.resources import Resources
from harness.suites.axes import Axes
from harness.suites.filters import fields_of
from harness.suites.suite import Suite
from harness.trial import Trial, annotations_of, canonical_json, encode, identity_of, is_unsaid

__all__ = ["MAX_TRIALS", "Point", "expand"]

MAX_TRIALS = 1_000_000


@dataclass(frozen=True)
class Point:
    """A trial of a suite.

    Arguments:
        trial: The resolved spec.
        resources: What it gets.
        excluded: Why the suite skips it; None if it does not.
    """

    trial: Trial
    resources: Resources
    excluded: str | None = None


def expand(suite: Suite) -> tuple[Point, ...]:
    """Returns the trials of a suite, included ones first, each once.

    A trial that is excluded in one file and wanted by another runs.

    Raises:
        InputError: The grid has no trials or too many, or an exclusion or a gate matches none.
    """
    problems = Problems()
    points = _expand(suite, problems)
    if not points and not problems:
        problems.add(suite.place, f"the suite '{suite.name}' has no trials")
    problems.raise_if_any()
    return tuple(points.values())


def _expand(suite: Suite, problems: Problems) -> dict[str, Point]:
    points: dict[str, Point] = {}
    for included in suite.included:
        for identity, point in _expand(included, problems).items():
            if identity not in points or points[identity].excluded:
                points[identity] = point
    grids = [axes for block in suite.blocks for axes in block.grids]
    count = sum(math.prod(len(values) for values in axes.values()) for axes in grids)
    if count > MAX_TRIALS:
        problems.add(
            suite.place, f"the grid has {count:,} trials; at most {MAX_TRIALS:,} make a suite"
        )
        return points
    for trial in itertools.chain.from_iterable(map(_trials, grids)):
        if trial.id not in points or points[trial.id].excluded:
            points[trial.id] = Point(trial, suite.resources)
    _exclude(suite, points, problems)
    return points


def _exclude(suite: Suite, points: dict[str, Point], problems: Problems) -> None:
    """Marks excluded points; an exclusion or a gate that binds no trial is a mistake."""
    if not (suite.exclusions or suite.gates):
        return
    unused = list(suite.exclusions)
    idle = list(suite.gates)
    for identity, point in points.items():
        fields = fields_of(point.trial)
        idle = [gate for gate in idle if not gate.when.matches(fields)]
        for exclusion in suite.exclusions:
            if exclusion.when.matches(fields):
                unused = [other for other in unused if other is not exclusion]
                if points[identity].excluded is None:
                    points[identity] = replace(point, excluded=exclusion.reason)
    for exclusion in unused:
        problems.add(exclusion.place, f"the exclusion '{exclusion.when.text}' matches no trial")
    for gate in idle:
        problems.add(gate.place, f"the gate '{gate.when.text}' matches no trial")


def _trials(axes: Axes) -> Iterator[Trial]:
    """Multiplies the axes; the last one runs fastest.

    A field is encoded once for each of its values, not once for each trial: the ids of a large
    grid are most of the work of a plan.
    """
    names = tuple(axes)
    choices = [[(value, _fragment(name, value)) for value in axes[name]] for name in names]
    first = Trial(**{name: values[0] for name, values in axes.items()})
    rest = {name: _fragment(name, getattr(first, name)) for name in _KINDS if name not in axes}
    for combination in itertools.product(*choices):
        values = {name: value for name, (value, _) in zip(names, combination, strict=True)}
        chosen = {name: text for name, (_, text) in zip(names, combination, strict=True)}
        fragments = {**rest, **chosen}
        canonical = "{" + ",".join(filter(None, [fragments[name] for name in _SORTED])) + "}"
        yield Trial(**values, identity=identity_of(canonical))


_KINDS = annotations_of(Trial)
_SORTED = sorted(_KINDS)


def _fragment(name: str, value: Any) -> str:  # noqa: ANN401
    """One field of the canonical JSON of a trial; empty if that leaves it out."""
    if is_unsaid(Trial, name, value):
        return ""
    return canonical_json({name: encode(value, _KINDS[name])})[1:-1]
