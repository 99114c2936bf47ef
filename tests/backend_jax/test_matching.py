"""Flow matching: a Gaussian is learnt, to the floor of the loss and to its entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from harness_jax.model import JaxModel
from learnt_gaussian import (
    OBJECTIVES,
    check_that_a_gaussian_is_learnt,
    gaussian_batch,
    gaussian_trial,
)

from harness.errors import BackendError
from harness.interface import Control
from harness.trial import FlowMatching, Trial


@pytest.mark.parametrize(
    ("objective", "blocks", "floor"), OBJECTIVES, ids=["linear", "trigonometric, two blocks"]
)
def test_a_gaussian_is_learnt(
    objective: FlowMatching,
    blocks: int,
    floor: float,
    open_model: Callable[[Trial, int], JaxModel],
) -> None:
    trial = gaussian_trial("jax", objective, blocks)
    check_that_a_gaussian_is_learnt(trial, floor, open_model)


def test_a_batch_without_points_is_refused(open_model: Callable[[Trial, int], JaxModel]) -> None:
    trial = gaussian_trial("jax", FlowMatching())
    batch = replace(gaussian_batch(trial, 0), noise={})
    with pytest.raises(BackendError, match="/0'"):
        open_model(trial, 2).train_step(batch, Control(trial.solver, "exact"))
