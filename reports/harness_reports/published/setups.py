"""The set-up behind a published value, and how a trial departs from it.

A set-up is a list of conditions on the resolved spec of a trial, by dotted names
(`model.hidden`, `training.batch`). What it does not name of the model, and the objective, must be
at its default, or a new kind of layer or norm would pass for the paper's; elsewhere what is not
named is free.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.labels import regularizer_label
from harness.trial import (
    AdaptiveSolver,
    BatchNorm,
    DatasetRef,
    FixedSolver,
    MaximumLikelihood,
    ModelSpec,
    Posterior,
    Trial,
    encode,
)

__all__ = [
    "METRIC_N",
    "Condition",
    "Departure",
    "Setup",
    "departures",
    "in_words",
    "known_names",
    "values_of",
]

Setup = Sequence["Condition"]

METRIC_N = "metric.n"
"""Name of a value that no spec has: the rows or samplings behind the recorded metric."""

_MODEL = "model."
_OBJECTIVE = "objective.name"


@dataclass(frozen=True)
class Condition:
    """What one value of a spec must be; it holds if any part of it does.

    Arguments:
        name: Dotted name of the value.
        any_of: Accepted values.
        at_least: Least accepted number.
        at_most: Largest accepted number.
        otherwise: What a trial that departs from it is called; by default `other model` for
            `model.hidden`, `other solver` for `evaluation.solver.name`.
    """

    name: str
    any_of: tuple[Any, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    otherwise: str | None = None

    def holds(self, value: Any) -> bool:  # noqa: ANN401
        """True if a trial with this value meets the condition."""
        if value in self.any_of:
            return True
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        above = self.at_least is not None and value >= self.at_least
        below = self.at_most is not None and value <= self.at_most
        return above or below

    @property
    def heading(self) -> str:
        """What a trial that departs from it is called."""
        if self.otherwise:
            return self.otherwise
        *_, parent, last = ("", *self.name.split("."))
        return f"other {_words(parent or last)}"

    def __str__(self) -> str:
        """What was published: `60-60-60`, `concat or concatsquash`, `at least 6200`."""
        parts = [_text(value) for value in self.any_of if value is not None]
        parts += [] if self.at_least is None else [f"at least {_text(self.at_least)}"]
        parts += [] if self.at_most is None else [f"at most {_text(self.at_most)}"]
        return " or ".join(parts)


@dataclass(frozen=True)
class Departure:
    """One condition that a trial does not meet: what that is called, and the two values."""

    heading: str
    detail: str


def values_of(trial: Trial) -> dict[str, Any]:
    """Values of a trial by dotted name.

    As in its spec, with five exceptions: lists are tuples; `regularizer` is its label;
    `objective.name` is there also where a spec leaves the objective out;
    `evaluation.solver` is the solver that evaluates, also where that is the training's;
    `training.examples` is the number of examples that training sees, repetitions counted.
    """
    evaluation = replace(trial.evaluation, solver=trial.evaluation_solver)
    spec = encode(replace(trial, evaluation=evaluation))
    spec["objective"] = encode(trial.objective)
    spec["regularizer"] = regularizer_label(trial.regularizer)
    spec["training"]["examples"] = trial.training.iterations * trial.training.batch
    return dict(_leaves(spec, ""))


def departures(setup: Setup, values: Mapping[str, Any]) -> tuple[Departure, ...]:
    """How a trial departs from a set-up; empty if it meets all of it.

    Arguments:
        setup: The conditions.
        values: Of the trial, see `values_of`; also `METRIC_N`, if a metric was recorded.
    """
    broken = [
        condition
        for condition in (*setup, *_defaults(setup))
        if condition.name not in values or not condition.holds(values[condition.name])
    ]
    broken.sort(key=lambda condition: not condition.name.startswith(_MODEL))
    # The solver that trains often evaluates too: its departures are named once.
    return tuple(dict.fromkeys(_departure(condition, values) for condition in broken))


def in_words(departures: Iterable[Departure]) -> str:
    """Departures by heading.

    Example:
        `other model (blocks 1 instead of 5); short training (iterations 1,000 instead of at least
        6,200)`
    """
    details: dict[str, list[str]] = {}
    for departure in departures:
        texts = details.setdefault(departure.heading, [])
        texts += [departure.detail] if departure.detail else []
    return "; ".join(
        f"{heading} ({', '.join(texts)})" if texts else heading
        for heading, texts in details.items()
    )


@functools.cache
def known_names() -> frozenset[str]:
    """Names that a condition can ask for."""
    solvers = (AdaptiveSolver("dopri5"), FixedSolver("rk4_38", 1))
    models = (ModelSpec(), ModelSpec(batch_norm=BatchNorm(), posterior=Posterior()))
    trials = [
        Trial(DatasetRef("", ""), "", solver, model) for solver in solvers for model in models
    ]
    return frozenset({METRIC_N, *(name for trial in trials for name in values_of(trial))})


def _defaults(setup: Setup) -> Iterator[Condition]:
    """Of the model, and the objective: what a set-up that has a model does not name of them."""
    named = {condition.name for condition in setup}
    if not any(name.startswith(_MODEL) for name in named):
        return
    if _OBJECTIVE not in named:
        yield Condition(_OBJECTIVE, (MaximumLikelihood().name,))
    for name, default in _leaves(encode(ModelSpec()), _MODEL):
        if not any(other == name or other.startswith(f"{name}.") for other in named):
            yield Condition(name, (default,))


def _departure(condition: Condition, values: Mapping[str, Any]) -> Departure:
    section, _, last = condition.name.rpartition(".")
    if condition.name not in values:
        # Either it has parts where the set-up has none, or it belongs to another kind of solver,
        # which other conditions name.
        parts = any(name.startswith(f"{condition.name}.") for name in values)
        return Departure(condition.heading, _words(last) if parts else "")
    words = f"{_words(last) if section else ''} {_text(values[condition.name])}".lstrip()
    published = str(condition)
    return Departure(condition.heading, f"{words} instead of {published}" if published else words)


def _leaves(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", tuple(item) if isinstance(item, list) else item


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(value: Any) -> str:  # noqa: ANN401
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "none"
        case tuple():
            parts = [str(part) for part in value]
            # A minus sign must not meet a hyphen.
            signs = any(part.startswith("-") for part in parts)
            return (",".join(parts) if signs else "-".join(parts)) or "none"
        case int() | float() if value == int(value):
            return f"{value:,.0f}"
        case float():
            return f"{value:g}"
        case _:
            return str(value)
