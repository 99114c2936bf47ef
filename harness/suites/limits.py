"""The limits that a suite sets: gates for its results, a budget for its cost and for timing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from harness.specs.bounds import STRICT, Bound, NonNegative, Positive

__all__ = ["LEAST_ROUNDS", "Budget", "Gate", "Timing"]

LEAST_ROUNDS = 6
"""Fewer values have no interval of their median at 95 % (`harness.statistics.median_interval`)."""


@dataclass(frozen=True)
class Gate:
    """A bound that the results of a suite must keep; otherwise `harness run` exits with code 3.

    Arguments:
        when: Filter expression; which trials it binds.
        metric: Name of the metric that must be lower than the bound.
        below: A number, or the name of another metric of the same trial.
        margin: The metric must be lower than the bound by at least this.
    """

    __pydantic_config__ = STRICT

    when: str
    metric: str
    below: float | str
    margin: NonNegative = 0.0


@dataclass(frozen=True)
class Budget:
    """What a suite may spend at most; `harness run` does not start above it without `--yes`.

    Arguments:
        hours: Hours of all trials added up; null means no limit.
        gpu_hours: GPUs times hours; null means no limit.
        cpu_hours: CPU cores times hours; null means no limit.
    """

    __pydantic_config__ = STRICT

    hours: Positive | None = None
    gpu_hours: Positive | None = None
    cpu_hours: Positive | None = None


@dataclass(frozen=True)
class Timing:
    """How the backends are timed side by side after the trials; a suite without it times nothing.

    Arguments:
        rounds: Undisturbed rounds of each setting, for each of its two sets of arrays.
        budget_seconds: What one `harness run` spends on all settings. Those that it does not come
            to are left to `harness run --timing`.
    """

    __pydantic_config__ = STRICT

    rounds: Annotated[int, Bound(at_least=LEAST_ROUNDS)] = 20
    budget_seconds: Positive = 600.0
