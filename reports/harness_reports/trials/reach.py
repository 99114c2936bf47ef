"""How long training takes to reach a likelihood: validation curves against seconds of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import pandas as pd

from harness.labels import regularizer_label, solver_label
from harness.trial import AdaptiveSolver, SolverSpec, Trial, canonical
from harness_reports.trials.entries import Entry
from harness_reports.trials.groups import Group
from harness_reports.trials.quantities import Quantity

__all__ = ["Contrast", "Curve", "Level", "Reached", "common_level", "contrasts", "curves_of"]


class Reached(NamedTuple):
    """A validation.

    Arguments:
        seconds: Seconds of training steps until then; neither compiling nor validating counts.
        step: Optimiser steps until then.
        value: What it found, in the unit of the dataset's tables.
    """

    seconds: float
    step: int
    value: float


@dataclass(frozen=True)
class Level:
    """A likelihood that trainings are timed to, in the unit of the dataset's tables; lower is
    better.
    """

    name: str
    value: float


@dataclass(frozen=True)
class Curve:
    """The validations of a trial, in the order of training."""

    points: tuple[Reached, ...]

    def reach(self, level: float) -> Reached | None:
        """The first validation that is at a level or below it; None if no one is."""
        return next((point for point in self.points if point.value <= level), None)

    @property
    def best(self) -> float:
        """The lowest value."""
        return min(point.value for point in self.points)


def curves_of(
    entries: Iterable[Entry], history: pd.DataFrame, quantity: Quantity, unit: float = 1.0
) -> dict[str, Curve]:
    """Validation curves by trial id, of the trials that ended ok and have one.

    Arguments:
        entries: Trials of one dataset.
        history: All curves, as `harness.records.frame.history` gives them.
        quantity: What training minimises, in nats.
        unit: What nats are multiplied by.
    """
    wanted = [entry.id for entry in entries if entry.ok]
    rows = history[history["trial_id"].isin(wanted)]
    metric = f"val_{quantity.curve}"
    table = rows[rows["metric"].isin([metric, "train_s"])].pivot_table(
        index=["trial_id", "step"], columns="metric", values="value"
    )
    if not {metric, "train_s"} <= set(table.columns):
        return {}
    table = table.dropna().sort_index().reset_index()
    return {
        str(trial_id): Curve(
            tuple(
                Reached(float(seconds), int(step), unit * float(value))
                for seconds, step, value in zip(
                    part["train_s"], part["step"], part[metric], strict=True
                )
            )
        )
        for trial_id, part in table.groupby("trial_id")
    }


def common_level(curves: Iterable[Curve]) -> float | None:
    """The lowest level that all curves reach; None if there are none."""
    return max((curve.best for curve in curves), default=None)


@dataclass(frozen=True)
class Contrast:
    """Two groups that differ in one thing only.

    Arguments:
        factor: What they differ in.
        words: What it is in the first and in the second.
        first: The group that the plan names later.
        second: The group that the plan names first, which the other is held against.
    """

    factor: str
    words: tuple[str, str]
    first: Group
    second: Group


def contrasts(groups: Sequence[Group]) -> list[Contrast]:
    """All contrasts of the groups of one dataset in backend, solver, regularizer and first-step
    rule, each with the first of the groups that agree in everything else.
    """
    factors = {id(group): _factors(group.entries[0].planned.trial) for group in groups}
    pairs = []
    for name in _FACTORS:
        alike: dict[tuple[str, ...], list[Group]] = {}
        for group in groups:
            mine = factors[id(group)]
            rest = (*(text for other, text in mine.items() if other != name),)
            alike.setdefault(rest, []).append(group)
        for first, *others in alike.values():
            for other in others:
                words = factors[id(other)][name], factors[id(first)][name]
                pairs.append(Contrast(name, words, other, first))
    return pairs


_FACTORS = ("backend", "solver", "regularizer", "first step")
_USUAL: Final = "heuristic"


def _factors(trial: Trial) -> Mapping[str, str]:
    """The four factors of a trial in words, and everything else but the seed."""
    solver, first_step = _without_first_step(trial.solver)
    rest = replace(trial, backend="", solver=AdaptiveSolver("dopri5"), regularizer={}, seed=0)
    return {
        "backend": trial.backend,
        "solver": solver_label(solver),
        "regularizer": regularizer_label(trial.regularizer),
        "first step": first_step,
        "rest": canonical(rest),
    }


def _without_first_step(solver: SolverSpec) -> tuple[SolverSpec, str]:
    """A solver with the usual rule, and its own. One without a rule has the usual one here, so
    that it differs from an adaptive solver in one thing.
    """
    if not isinstance(solver, AdaptiveSolver):
        return solver, _USUAL
    return replace(solver, first_step=_USUAL), str(solver.first_step)
