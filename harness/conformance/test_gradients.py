"""Gradients against finite differences and across gradient modes; resume; divergence."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from harness.conformance.cases import Case, make_trial, tolerance_of
from harness.conformance.inputs import inputs, objective, train_once
from harness.conformance.plugin import OpenModel, Subject
from harness.interface import Backend, Model
from harness.solvers import ADAPTIVE_SOLVERS
from harness.streams import Stream
from harness.trial import AdaptiveSolver, RegularizerName, Trial

SMOOTH = Case("concatsquash", "tanh", "hutchinson", "dopri5", "direct")
REGULARIZERS: list[tuple[RegularizerName, ...]] = [
    (),
    ("rnode.kinetic",),
    ("rnode.jacobian",),
    ("rnode.jacobian", "rnode.kinetic"),
]


class Derivatives(NamedTuple):
    """Derivative of the loss along a random direction: from the gradient, and by differences.

    `scale` is the norm of the gradient: along a standard normal direction the derivative is that
    times a standard normal number, so errors are measured against the norm, not the derivative.
    """

    along: float
    difference: float
    scale: float

    def agree(self, rtol: float) -> bool:
        return abs(self.along - self.difference) <= rtol * self.scale


def _directional_derivatives(trial: Trial, model: Model, h: float = 1e-5) -> Derivatives:
    batch, control = inputs(trial)
    gradient = train_once(model, batch, control)
    start = model.arrays()
    direction = {
        name: Stream(trial.seed, f"direction/{name}").normal(value.shape)
        for name, value in gradient.items()
    }
    along = sum(float(np.sum(gradient[name] * direction[name])) for name in gradient)
    ends = []
    for sign in (1, -1):
        moved = {name: start[name] + sign * h * direction[name] for name in gradient}
        model.load_arrays({**start, **moved})
        ends.append(objective(model, trial, batch, control))
    scale = math.sqrt(sum(float(np.sum(np.square(value))) for value in gradient.values()))
    return Derivatives(along, (ends[0] - ends[1]) / (2 * h), scale)


def test_gradient_matches_differences(subject: Subject) -> None:
    case = subject.case
    adaptive = case.solver in ADAPTIVE_SOLVERS
    if case.gradient == "adjoint" and not adaptive:
        pytest.skip("the adjoint of a coarse fixed grid is not the gradient of its solution")
    if case.nonlinearity == "relu" and adaptive:
        pytest.skip("the divergence of a relu net jumps; its derivative does not see the jumps")
    # The step sequence changes with the arrays, which adds noise of the size tolerance / h to the
    # difference, and where elu's second derivative jumps the gradient itself is less accurate.
    loose = adaptive and tolerance_of(case) > 1e-9
    h, rtol = (1e-3, 1e-2) if loose else (1e-5, 1e-5)
    found = _directional_derivatives(subject.trial, subject.model, h)
    assert found.agree(rtol), found


@pytest.mark.parametrize("names", REGULARIZERS, ids=lambda names: "+".join(names) or "none")
@pytest.mark.parametrize("gradient", ["adjoint", "direct"])
def test_regularized_gradient_matches_differences(
    names: tuple[RegularizerName, ...], gradient: str, backend: Backend, open_model: OpenModel
) -> None:
    case = replace(SMOOTH, gradient=gradient)
    trial = make_trial(case, backend.name, blocks=2, regularizer=names)
    found = _directional_derivatives(trial, open_model(trial))
    assert found.agree(1e-5), found


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_gradient_modes_agree(trace: str, backend: Backend, open_model: OpenModel) -> None:
    case = replace(SMOOTH, trace=trace)
    trial = make_trial(case, backend.name, blocks=2)
    gradients = [
        train_once(open_model(replace(trial, gradient=mode)), *inputs(trial_of_mode))
        for mode in ("direct", "adjoint")
        for trial_of_mode in (replace(trial, gradient=mode),)
    ]
    for name, value in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_end_time_gets_a_gradient_only_when_trained(
    backend: Backend, open_model: OpenModel
) -> None:
    trial = make_trial(SMOOTH, backend.name)
    trained = train_once(open_model(trial), *inputs(trial))
    assert abs(float(trained["block0/sqrt_end_time"])) > 1e-8
    end_time = replace(trial.model.end_time, mode="inert")
    inert = replace(trial, model=replace(trial.model, end_time=end_time))
    assert "block0/sqrt_end_time" not in train_once(open_model(inert), *inputs(inert))


def test_resume_is_bitwise(subject: Subject, open_model: OpenModel) -> None:
    trial, straight = subject.trial, subject.model
    losses = [straight.train_step(*inputs(trial, step=0)).fetch().loss]
    arrays, state = straight.arrays(), straight.state()
    losses += [straight.train_step(*inputs(trial, step=step)).fetch().loss for step in (1, 2)]
    other = open_model(replace(trial, seed=99))
    other.load_arrays(arrays)
    other.load_state(state)
    resumed = [other.train_step(*inputs(trial, step=step)).fetch().loss for step in (1, 2)]
    assert resumed == losses[1:]
    for name, value in straight.arrays().items():
        assert other.arrays()[name].tobytes() == value.tobytes(), name


def test_evaluation_changes_no_state(backend: Backend, open_model: OpenModel) -> None:
    trial = make_trial(SMOOTH, backend.name, blocks=2)
    model = open_model(trial)
    model.train_step(*inputs(trial)).fetch()
    before = {**model.arrays(), **model.state()}
    batch, control = inputs(trial, "evaluate", size=9)
    model.evaluate(batch, control, ("log_prob", "encode"))
    after = {**model.arrays(), **model.state()}
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].tobytes() == value.tobytes(), name


def test_divergence_is_a_report_not_an_exception(backend: Backend, open_model: OpenModel) -> None:
    trial = make_trial(SMOOTH, backend.name)
    assert isinstance(trial.solver, AdaptiveSolver)
    model = open_model(trial)
    batch, control = inputs(trial)
    few = replace(control, solver=replace(trial.solver, max_steps=2))
    assert model.evaluate(batch, few, ("log_prob",)).failure == "max_steps"
    assert model.train_step(batch, few).fetch().failure == "max_steps"
    model = open_model(trial)
    model.load_arrays({k: np.full_like(v, np.nan) for k, v in model.arrays().items()})
    assert model.evaluate(batch, control, ("log_prob",)).failure == "non-finite"
    assert model.train_step(batch, control).fetch().failure == "non-finite"
