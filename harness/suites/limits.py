"""The limits that a suite sets: gates for its results, a budget for its cost."""

from __future__ import annotations

from dataclasses import dataclass

from harness.specs.bounds import STRICT, NonNegative, Positive

__all__ = ["Budget", "Gate"]


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
