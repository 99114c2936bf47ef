"""Flow matching against the oracle: every layer at times of each example's own, paths, couplings,
several blocks; what it counts, that it resumes, and what it refuses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from harness.conformance.cases import Case, data_of, make_trial
from harness.conformance.inputs import agree, check_training_step, evaluate, inputs, take_step
from harness.conformance.oracle.flow import Oracle
from harness.conformance.plugin import OpenModel
from harness.interface import Backend, Unsupported
from harness.trial import (
    AdaptiveSolver,
    BatchNorm,
    FlowMatching,
    LayerName,
    Posterior,
    Trial,
)

LINEAR = Case("concatsquash", "tanh", "hutchinson", "rk4_38", "adjoint", "linear")
IMAGE = replace(LINEAR, form="convolution")
SIGMA = FlowMatching(sigma_min=0.1)
OT = FlowMatching(coupling="minibatch_ot")

MODELS: dict[str, tuple[Case, FlowMatching, dict[str, Any]]] = {
    **{
        f"{layer}, {case.form}": (replace(case, layer=layer), SIGMA, {})
        for layer in get_args(LayerName)
        for case in (LINEAR, IMAGE)
    },
    "three blocks, trigonometric": (LINEAR, FlowMatching("trigonometric"), {"blocks": 3}),
    "two blocks, vp, optimal": (LINEAR, FlowMatching("vp", "minibatch_ot"), {"blocks": 2}),
    "optimal, residual": (LINEAR, OT, {"residual": True}),
    "image, optimal, spectral": (IMAGE, OT, {"spectral_norm": True}),
    "two blocks share swish": (replace(LINEAR, nonlinearity="swish"), SIGMA, {"blocks": 2}),
}


def _trial(backend: Backend, name: str) -> Trial:
    case, objective, fields = MODELS[name]
    return replace(make_trial(case, backend.name, **fields), objective=objective)


@pytest.mark.parametrize("name", MODELS)
def test_training_step(name: str, backend: Backend, open_model: OpenModel) -> None:
    """The end time is trained: its gradient is among those that are compared."""
    trial = _trial(backend, name)
    model = open_model(trial)
    check_training_step(model, trial, 1e-12)
    check_training_step(model, trial, 1e-12, step=1, gradient=None)


def test_measured_is_the_density(backend: Backend, open_model: OpenModel) -> None:
    trial = _trial(backend, "three blocks, trigonometric")
    model = open_model(trial)
    take_step(model, *inputs(trial))
    batch, control = inputs(trial, "evaluate")
    values = evaluate(model, batch, control, "log_prob", "encode").values
    run = Oracle(trial, data_of(trial)).run(model.arrays(), batch, control)
    agree(values["log_prob"], run.log_prob, 1e-12, "log p")
    agree(values["encode"], run.z, 1e-12, "z")


@pytest.mark.parametrize("gradient", ["adjoint", "direct", "checkpoint"])
def test_a_step_is_one_evaluation_of_each_block(
    gradient: Any,  # noqa: ANN401
    backend: Backend,
    open_model: OpenModel,
) -> None:
    trial = replace(_trial(backend, "three blocks, trigonometric"), gradient=gradient)
    report = take_step(open_model(trial), *inputs(trial))
    assert report.nll is None
    assert report.regularizers == {}
    nfe = report.nfe
    assert (nfe.forward, nfe.vjp, nfe.backward) == ((1, 1, 1), (1, 1, 1), ())
    assert sum(nfe.accepted) == sum(nfe.rejected) == sum(nfe.recompute) == 0


def test_resume_is_bitwise(backend: Backend, open_model: OpenModel) -> None:
    trial = _trial(backend, "image, optimal, spectral")
    straight = open_model(trial)
    take_step(straight, *inputs(trial, step=0))
    arrays, state = straight.arrays(), straight.state()
    losses = [take_step(straight, *inputs(trial, step=step)).loss for step in (1, 2)]
    other = open_model(replace(trial, seed=99))
    other.load_arrays(arrays)
    other.load_state(state)
    assert [take_step(other, *inputs(trial, step=step)).loss for step in (1, 2)] == losses
    for name, value in straight.arrays().items():
        assert other.arrays()[name].tobytes() == value.tobytes(), name


def test_a_loss_that_is_not_finite_is_a_report(backend: Backend, open_model: OpenModel) -> None:
    trial = _trial(backend, "optimal, residual")
    model = open_model(trial)
    model.load_arrays({k: np.full_like(v, np.nan) for k, v in model.arrays().items()})
    assert model.train_step(*inputs(trial)).fetch().failure == "non-finite"


WARM = AdaptiveSolver("dopri5", first_step="warm")
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "autoencoder": ({"posterior": Posterior(3, "plain")}, {}),
    "batch norm": ({"batch_norm": BatchNorm()}, {}),
    "multiscale": ({"scales": 2, "strides": (1, 1), "hidden": (2,)}, {}),
    "regularizer": ({}, {"regularizer": {"rnode.kinetic": 0.1}}),
    "warm": ({}, {"solver": WARM}),
}


@pytest.mark.parametrize(("word", "changes"), REFUSED.items(), ids=list(REFUSED))
def test_refused(
    word: str, changes: tuple[dict[str, Any], dict[str, Any]], backend: Backend
) -> None:
    model, fields = changes
    trial = replace(make_trial(LINEAR, backend.name, **model), **fields)
    assert backend.supports(trial) is None
    answer = backend.supports(replace(trial, objective=FlowMatching()))
    assert isinstance(answer, Unsupported)
    assert word in answer.reason
