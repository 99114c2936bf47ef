"""What the trials of a plan will cost, as far as records tell."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.datasets.registry import Declaration
from harness.metrics.costs import Cost
from harness.metrics.paddingflow import protocol_cost
from harness.trial import Trial

__all__ = ["UNKNOWN_COST", "cost_of"]


UNKNOWN_COST = Cost(math.inf, 0)


def cost_of(trial: Trial, declare: Callable[[str], Declaration]) -> Cost | None:
    """None if a trial has no metrics of samples."""
    wanted = trial.evaluation.sample_metrics
    if wanted is None:
        return None
    facts = declare(trial.dataset.name)
    if facts.event_shape is None:
        return UNKNOWN_COST
    return protocol_cost(wanted, math.prod(facts.event_shape), facts.test_rows)
