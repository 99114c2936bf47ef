"""The plan: every trial of a suite with its state, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.trial import Trial

__all__ = ["Gate", "Plan", "PlannedTrial", "Resources", "State"]

State = Literal["to_run", "finished", "skipped"]


@dataclass(frozen=True)
class Resources:
    """What a trial gets; never part of its identity.

    Arguments:
        cpus: CPU cores, pinned.
        gpus: GPUs; a fraction shares one and marks its timings as shared.
        timeout_minutes: The trial is killed then, and recorded as `timeout`.
    """

    cpus: int = 1
    gpus: float = 0.0
    timeout_minutes: float = 60.0


@dataclass(frozen=True)
class Gate:
    """A bound that the results of a suite must keep, else `harness run` exits with code 3.

    Arguments:
        when: Filter expression; which trials it binds.
        metric: Name of the metric that must be lower than the bound.
        below: A number, or the name of another metric of the same trial.
        margin: The metric must be lower than the bound by at least so much.
    """

    when: str
    metric: str
    below: float | str
    margin: float = 0.0


@dataclass(frozen=True)
class PlannedTrial:
    """One trial and what would happen to it.

    Arguments:
        trial: The resolved spec.
        state: `to_run`, `finished` (a record exists) or `skipped`.
        reason: Why it is skipped, or a remark such as "will download 817 MB".
        resources: What it gets.
    """

    trial: Trial
    state: State
    reason: str | None
    resources: Resources


@dataclass(frozen=True)
class Plan:
    """All trials of a suite, in the order of the file."""

    suite: str
    description: str
    trials: tuple[PlannedTrial, ...]
    gates: tuple[Gate, ...] = ()
