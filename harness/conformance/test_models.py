"""What a model can have beside its layers, against the oracle: two training steps, an evaluation.

The second step sees what the first left behind: running statistics, spectral vectors, moments.
"""

from __future__ import annotations

from typing import Any

import pytest

from harness.conformance.cases import Case, data_of, make_trial
from harness.conformance.inputs import agree, check_training_step, evaluate, inputs
from harness.conformance.oracle.autoencoder import Nets
from harness.conformance.oracle.flow import Oracle
from harness.conformance.plugin import OpenModel
from harness.interface import Backend, Batch
from harness.trial import BatchNorm, EndTime, Posterior

LINEAR = Case("concatsquash", "tanh", "hutchinson", "rk4_38", "direct", "linear")
IMAGE = Case("concat", "softplus", "hutchinson", "midpoint", "checkpoint", "convolution")

MODELS: dict[str, tuple[Case, dict[str, Any]]] = {
    "two blocks, fixed end, zero last": (
        LINEAR,
        {"blocks": 2, "end_time": EndTime(0.5), "zero_last": True},
    ),
    "two blocks share swish": (
        Case("blend", "swish", "exact", "dopri5", "direct", "linear"),
        {"blocks": 2},
    ),
    "residual": (LINEAR, {"residual": True}),
    "residual, bottleneck": (
        Case("concat", "elu", "bottleneck", "heun2", "direct", "linear"),
        {"residual": True},
    ),
    "residual, exact": (
        Case("concat_v2", "tanh", "exact", "rk4_classic", "direct", "linear"),
        {"residual": True, "spectral_norm": True},
    ),
    "norms": (LINEAR, {"blocks": 2, "batch_norm": BatchNorm()}),
    "norms with lag, spectral": (
        Case("concatsquash", "tanh", "exact", "bosh3", "checkpoint", "linear"),
        {"blocks": 2, "batch_norm": BatchNorm(lag=0.6, decay=0.3), "spectral_norm": True},
    ),
    "two scales": (IMAGE, {"scales": 2, "hidden": (2,), "strides": (1, 1)}),
    "two scales, norms, spectral, residual": (
        Case("squash", "tanh", "hutchinson", "dopri5", "direct", "convolution"),
        {
            "scales": 2,
            "batch_norm": BatchNorm(lag=0.5),
            "spectral_norm": True,
            "residual": True,
        },
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, backend: Backend, open_model: OpenModel) -> None:
    case, fields = MODELS[name]
    trial = make_trial(case, backend.name, **fields)
    model = open_model(trial)
    # An adaptive solver amplifies rounding, see test_cases.
    tolerance = 1e-9 if case.adaptive else 1e-12
    check_training_step(model, trial, tolerance)
    check_training_step(model, trial, tolerance, step=1, gradient=None)
    batch, control = inputs(trial, "evaluate")
    values = evaluate(model, batch, control, "log_prob", "encode").values
    run = Oracle(trial, data_of(trial)).run(model.arrays(), batch, control)
    agree(values["log_prob"], run.log_prob, tolerance, "log p")
    agree(values["encode"], run.z, tolerance, "z")


POSTERIORS: dict[str, tuple[Case, dict[str, Any]]] = {
    "plain": (Case("concatsquash", "softplus", "exact", "dopri5", "direct", "linear"), {}),
    "bias": (LINEAR, {"blocks": 2, "batch_norm": BatchNorm()}),
    "low_rank": (
        Case("concatsquash", "tanh", "hutchinson", "bosh3", "checkpoint", "linear"),
        {"blocks": 2},
    ),
    # With the likelihood of 256 levels, and a nonlinearity after the last layer.
    "hyper": (Case("concat", "tanh", "exact", "rk4_classic", "direct", "linear"), {}),
}


@pytest.mark.parametrize("amortization", POSTERIORS)
def test_autoencoder(
    amortization: Any,  # noqa: ANN401
    backend: Backend,
    open_model: OpenModel,
) -> None:
    case, fields = POSTERIORS[amortization]
    posterior = Posterior(3, amortization, rank=2, nonlinear_output=amortization == "hyper")
    trial = make_trial(case, backend.name, posterior=posterior, **fields)
    model = open_model(trial)
    tolerance = 1e-9 if case.adaptive else 1e-12
    check_training_step(model, trial, tolerance)
    batch, control = inputs(trial, "evaluate")
    values = evaluate(model, batch, control, "elbo_terms", "reconstruct").values
    run = Oracle(trial, data_of(trial)).run(model.arrays(), batch, control)
    for name, expected in run.elbo_terms.items():
        agree(values[name], expected, tolerance, name)
    agree(values["reconstruct"], run.picture, tolerance, "reconstruct")
    base = batch.noise["posterior"]
    sample = model.sample(Batch(batch.x[:0], {"base": base}), control).values["sample"]
    _, picture = Nets(posterior, data_of(trial)).reconstruction(model.arrays(), base, batch.x)
    agree(sample, picture, 1e-12, "sample")


@pytest.mark.parametrize("mode", ["fixed", "inert"])
def test_end_time_that_is_not_trained_stays(
    mode: Any,  # noqa: ANN401
    backend: Backend,
    open_model: OpenModel,
) -> None:
    trial = make_trial(LINEAR, backend.name, end_time=EndTime(0.7, mode))
    model = open_model(trial)
    before = model.arrays()["block0/sqrt_end_time"]
    check_training_step(model, trial, 1e-12)
    assert "adam/m/block0/sqrt_end_time" not in model.state()
    assert model.arrays()["block0/sqrt_end_time"] == before
