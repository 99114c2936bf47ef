"""What a trial is given to run with."""

from __future__ import annotations

from dataclasses import dataclass

from harness.specs.bounds import STRICT, Count, NonNegative, Positive

__all__ = ["Resources"]


@dataclass(frozen=True)
class Resources:
    """What a trial is given; never part of its identity.

    Arguments:
        cpus: CPU cores, pinned.
        gpus: GPUs; a fraction shares one and marks its timings as shared.
        timeout_minutes: The trial is killed then, and recorded as `timeout`.
    """

    __pydantic_config__ = STRICT

    cpus: Count = 1
    gpus: NonNegative = 0.0
    timeout_minutes: Positive = 60.0
