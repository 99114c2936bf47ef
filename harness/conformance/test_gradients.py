"""Gradients against finite differences and across gradient modes; resume; divergence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.conformance.cases import Case, make_trial, tolerance_of
from harness.conformance.inputs import inputs, objective, train_once
from harness.conformance.plugin import OpenModel
from harness.interface import Backend
from harness.solvers import ADAPTIVE_SOLVERS, FIXED_SOLVERS
from harness.streams import Stream
from harness.trial import AdaptiveSolver, RegularizerName, Trial

SMOOTH = Case("concatsquash", "tanh", "hutchinson", "dopri5", "direct")
REGULARIZERS: list[tuple[RegularizerName, ...]] = [
    (),
    ("rnode.kinetic",),
    ("rnode.jacobian",),
    ("rnode.jacobian", "rnode.kinetic"),
]


def _directional_derivatives(
    trial: Trial, open_model: OpenModel, h: float = 1e-5
) -> tuple[float, float]:
    """Derivative of the loss along a random direction: from the gradient, and by differences."""
    model = open_model(trial)
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
    return along, (ends[0] - ends[1]) / (2 * h)


def test_gradient_matches_differences(case: Case, backend: Backend, open_model: OpenModel) -> None:
    if case.gradient == "adjoint" and case.solver in FIXED_SOLVERS:
        pytest.skip("the adjoint of a coarse fixed grid is not the gradient of its solution")
    if case.nonlinearity == "relu" and case.solver in ADAPTIVE_SOLVERS:
        pytest.skip("the divergence of a relu net jumps; its derivative does not see the jumps")
    # The step sequence changes with the arrays, which adds noise of the size tolerance / h to the
    # difference; a larger h costs more where elu's second derivative jumps.
    loose = case.solver in ADAPTIVE_SOLVERS and tolerance_of(case) > 1e-9
    h = 1e-3 if loose else 1e-5
    rtol = 1e-2 if loose and case.nonlinearity == "elu" else h
    trial = make_trial(case, backend.name)
    along, difference = _directional_derivatives(trial, open_model, h)
    assert along == pytest.approx(difference, rel=rtol, abs=1e-6)


@pytest.mark.parametrize("names", REGULARIZERS, ids=lambda names: "+".join(names) or "none")
@pytest.mark.parametrize("gradient", ["adjoint", "direct"])
def test_regularized_gradient_matches_differences(
    names: tuple[RegularizerName, ...], gradient: str, backend: Backend, open_model: OpenModel
) -> None:
    case = replace(SMOOTH, gradient=gradient)
    trial = make_trial(case, backend.name, blocks=2, regularizer=names)
    along, difference = _directional_derivatives(trial, open_model)
    assert along == pytest.approx(difference, rel=1e-5, abs=1e-6)


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


def test_resume_is_bitwise(case: Case, backend: Backend, open_model: OpenModel) -> None:
    trial = make_trial(case, backend.name, blocks=2)
    straight = open_model(trial)
    losses = [straight.train_step(*inputs(trial, step=step)).fetch().loss for step in range(3)]
    first, second = open_model(trial), open_model(replace(trial, seed=99))
    resumed = [first.train_step(*inputs(trial, step=0)).fetch().loss]
    second.load_arrays(first.arrays())
    second.load_state(first.state())
    resumed += [second.train_step(*inputs(trial, step=step)).fetch().loss for step in (1, 2)]
    assert resumed == losses
    for name, value in straight.arrays().items():
        assert second.arrays()[name].tobytes() == value.tobytes(), name


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
