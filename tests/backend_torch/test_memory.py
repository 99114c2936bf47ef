"""What a training step keeps in each gradient mode, against the number of its steps."""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import cache

from live_memory import LivePeak

from harness.backends import get_backend
from harness.conformance.cases import Case, data_of, make_trial
from harness.conformance.inputs import inputs
from harness.trial import FixedSolver, GradientName

ROWS, DIMENSIONS = 100, 3
STATE = 8 * ROWS * DIMENSIONS
"""Bytes of a state of the batch."""


@cache
def _peak(mode: GradientName, steps: int) -> int:
    """Most bytes of live tensors in a training step of a net with one block, compiled or not."""
    case = Case("concatsquash", "tanh", "hutchinson", "rk4_38", mode, "linear")
    backend = get_backend("torch")
    trial = make_trial(case, "torch", hidden=(32, 32))
    backend.prepare(trial, 1)
    model = backend.open(trial, data_of(trial), "cpu", {"execution": "eager"})
    batch, control = inputs(trial, size=ROWS)
    control = replace(control, solver=FixedSolver("rk4_38", steps))
    model.train_step(batch, control)  # the optimiser's own arrays
    gc.collect()
    with LivePeak() as live:
        model.train_step(batch, control)
    peak: int = live.peak
    return peak


def test_reversible_keeps_nothing_of_a_step() -> None:
    assert _peak("reversible", 64) == _peak("reversible", 4)


def test_symplectic_keeps_a_state_a_step_and_one_evaluation() -> None:
    gained = _peak("symplectic", 64) - _peak("symplectic", 4)
    assert gained <= 60 * STATE
    # The evaluations of a step, four of them, have no place beside each other.
    assert _peak("symplectic", 4) < 0.5 * _peak("checkpoint", 4)


def test_direct_keeps_evaluations() -> None:
    gained = _peak("direct", 16) - _peak("direct", 4)
    assert gained > 12 * 4 * 10 * STATE
