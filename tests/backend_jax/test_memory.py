"""What a compiled training step has room for in a gradient mode, against its number of steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness_jax.model import JaxModel

from harness.backends import get_backend
from harness.conformance.cases import Case, data_of, make_trial
from harness.conformance.inputs import inputs
from harness.trial import FixedSolver, GradientName

ROWS, DIMENSIONS = 100, 3
STATE = 8 * ROWS * DIMENSIONS
"""Bytes of a state of the batch."""


def _room(mode: GradientName, steps: int) -> int:
    """Bytes of temporary arrays in the training step of a net with one block."""
    case = Case("concatsquash", "tanh", "hutchinson", "rk4_38", mode, "linear")
    trial = make_trial(case, "jax", hidden=(32, 32))
    backend = get_backend("jax")
    backend.prepare(trial, 1)
    model = backend.open(trial, data_of(trial), "cpu")
    assert isinstance(model, JaxModel)
    batch, control = inputs(trial, size=ROWS)
    control = replace(control, solver=FixedSolver("rk4_38", steps))
    program: Any = model._train_program(control, model._train_inputs(batch, control))
    return int(program.memory_analysis().temp_size_in_bytes)


def test_reversible_has_room_for_nothing_of_a_step() -> None:
    assert _room("reversible", 64) == _room("reversible", 4)


def test_symplectic_has_room_for_a_state_a_step() -> None:
    # And 16 bytes of times; XLA may copy what it keeps once.
    assert _room("symplectic", 64) - _room("symplectic", 4) <= 2 * 60 * (STATE + 16)
