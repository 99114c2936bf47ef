"""Each regularizer's value and gradient against the oracle, in a few models that have several.

Weights differ, so the gradient of no regularizer can stand in for another's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from harness.architecture.noise import draw, noise_slots
from harness.conformance.cases import Case, data_of, make_trial
from harness.conformance.inputs import agree, check_training_step, evaluate, inputs
from harness.conformance.oracle.flow import Oracle
from harness.conformance.plugin import OpenModel
from harness.interface import Backend
from harness.trial import AdaptiveSolver, RegularizerName

LINEAR = Case("concatsquash", "tanh", "hutchinson", "rk4_38", "direct", "linear")
CHECKPOINT = Case("blend", "softplus", "exact", "dopri5", "checkpoint", "linear")
IMAGE = Case("concat", "tanh", "hutchinson", "midpoint", "direct", "convolution")

GROUPS: list[tuple[Case, dict[RegularizerName, float]]] = [
    (
        LINEAR,
        {
            "rnode.directional": 0.3,
            "rnode.jacobian": 0.5,
            "rnode.kinetic": 0.7,
            "rnode.total": 1.1,
        },
    ),
    (CHECKPOINT, {"directional_jvp": 0.3, "jacobian_sum": 0.5, "kinetic_sum": 0.7}),
    (
        LINEAR,
        {
            "ffjord.dl2": 0.3,
            "ffjord.jdiag": 0.5,
            "ffjord.jfrob": 0.7,
            "ffjord.joffdiag": 1.1,
            "ffjord.l1": 1.3,
            "ffjord.l2": 1.7,
            "released.jdiag": 0.4,
            "released.joffdiag": 0.6,
        },
    ),
    (LINEAR, {"taylor_2": 0.3, "taylor_3": 0.5, "taylor_4": 0.7}),
    (CHECKPOINT, {"taylor_2": 0.3, "rnode.kinetic": 0.5}),
    (LINEAR, {"tpr": 0.3, "steer": 0.2}),
    (CHECKPOINT, {"tpr": 0.5, "rnode.kinetic": 0.3}),
    (IMAGE, {"rnode.jacobian": 0.3, "rnode.total": 0.5, "ffjord.jfrob": 0.7, "taylor_2": 1.1}),
]


def test_every_regularizer_is_in_a_group() -> None:
    assert {name for _, group in GROUPS for name in group} == set(get_args(RegularizerName))


@pytest.mark.parametrize(
    ("case", "weights"), GROUPS, ids=[f"{c.gradient}-{'+'.join(w)}" for c, w in GROUPS]
)
def test_value_and_gradient(
    case: Case, weights: dict[RegularizerName, float], backend: Backend, open_model: OpenModel
) -> None:
    trial = make_trial(case, backend.name, regularizer=weights)
    # Cauchy's formula gives the oracle's third derivatives to 1e-11, an adaptive solver as ever.
    tolerance = 1e-9 if case.adaptive or "taylor_4" in weights else 1e-12
    gradient = 1e-6 if "taylor_4" in weights else 1e-7
    check_training_step(open_model(trial), trial, tolerance, gradient=gradient)


def test_integrals_per_example(backend: Backend, open_model: OpenModel) -> None:
    weights: dict[RegularizerName, float] = {"rnode.jacobian": 0.5, "rnode.kinetic": 0.7}
    trial = make_trial(LINEAR, backend.name, regularizer=weights, blocks=2)
    model = open_model(trial)
    batch, control = inputs(trial)
    values = evaluate(model, batch, control, "regularizers").values
    oracle = Oracle(trial, data_of(trial))
    run = oracle.run(model.arrays(), batch, control, train=True)
    assert {f"regularizers/{name}" for name in weights} == set(values)
    for name, expected in run.regularizers.items():
        agree(values[f"regularizers/{name}"], expected, 1e-12, name)


def test_steer_moves_the_end_in_training_alone(backend: Backend, open_model: OpenModel) -> None:
    trial = make_trial(LINEAR, backend.name, regularizer={"steer": 0.5})
    shape = data_of(trial).event_shape
    assert "end_time/0" in draw(noise_slots(trial, shape, "train", 3), 0, 0, "float64")
    assert "end_time/0" not in noise_slots(trial, shape, "evaluate", 3)
    model = open_model(trial)
    steered, _ = (
        check_training_step(model, trial, 1e-12, step, gradient=None) for step in range(2)
    )
    # The same batch by the same arrays, to the end itself.
    plain = make_trial(LINEAR, backend.name)
    straight = check_training_step(open_model(plain), plain, 1e-12, gradient=None)
    assert steered.loss != straight.loss


def test_regularizers_in_the_norm(backend: Backend, open_model: OpenModel) -> None:
    """It takes other steps, so the loss is another; the oracle's all the same."""
    weights: dict[RegularizerName, float] = {"ffjord.l1": 0.5, "kinetic_sum": 0.7}
    left_out = make_trial(CHECKPOINT, backend.name, regularizer=weights)
    assert isinstance(left_out.solver, AdaptiveSolver)
    solver = replace(left_out.solver, rtol=1e-6, atol=1e-6)
    losses = set()
    for seen in (False, True):
        trial = replace(left_out, solver=replace(solver, regularizers_in_norm=seen))
        losses.add(check_training_step(open_model(trial), trial, 1e-9).loss)
    assert len(losses) == 2
