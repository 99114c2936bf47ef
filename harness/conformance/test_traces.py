"""Traces estimated with several probes: against the oracle, without bias, and with less variance.

Under fixed steps the path of z does not depend on the probes, so what holds for a trace holds for
its integral. Where a test draws, its rate of false alarms is said.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.conformance.cases import Case, data_of, make_trial
from harness.conformance.inputs import agree, check_training_step, evaluate, inputs
from harness.conformance.oracle.flow import Oracle
from harness.conformance.plugin import OpenModel
from harness.interface import Backend, Batch
from harness.trial import Posterior, Trial

LINEAR = Case("concatsquash", "tanh", "hutchinson", "rk4_38", "direct", "linear")
MODELS: dict[str, tuple[Case, dict[str, Any]]] = {
    "linear": (LINEAR, {}),
    "adaptive, adjoint": (replace(LINEAR, solver="dopri5", gradient="adjoint"), {}),
    "residual": (replace(LINEAR, gradient="checkpoint"), {"residual": True, "blocks": 2}),
    "bottleneck": (replace(LINEAR, trace="bottleneck"), {}),
    "image": (replace(LINEAR, form="convolution"), {}),
    "image, bottleneck": (replace(LINEAR, form="convolution", trace="bottleneck"), {}),
    "autoencoder": (LINEAR, {"posterior": Posterior(3, "low_rank", rank=2)}),
}


def _trial(backend: Backend, name: str, probes: int) -> Trial:
    case, fields = MODELS[name]
    trial = make_trial(case, backend.name, **fields)
    return replace(
        trial,
        training=replace(trial.training, probes=probes),
        evaluation=replace(trial.evaluation, probes=probes),
    )


@pytest.mark.parametrize("name", MODELS)
def test_three_probes(name: str, backend: Backend, open_model: OpenModel) -> None:
    trial = _trial(backend, name, 3)
    model = open_model(trial)
    # An adaptive solver amplifies rounding, and its adjoint is an approximation, see test_cases.
    adaptive = MODELS[name][0].adaptive
    tolerance, gradient = (1e-9, 1e-4) if adaptive else (1e-12, 1e-7)
    check_training_step(model, trial, tolerance, gradient=gradient)
    if trial.model.posterior is None:
        batch, control = inputs(trial, "evaluate")
        values = evaluate(model, batch, control, "log_prob").values
        run = Oracle(trial, data_of(trial)).run(model.arrays(), batch, control)
        agree(values["log_prob"], run.log_prob, tolerance, "log p")


@pytest.mark.parametrize("name", ["linear", "residual", "bottleneck"])
def test_all_signs_together_give_the_exact_trace(
    name: str, backend: Backend, open_model: OpenModel
) -> None:
    """The mean over all 2^D sign vectors is the trace, exactly: no bias, and nothing by chance."""
    trial = _trial(backend, name, 2)
    model = open_model(trial)
    batch, control = inputs(trial, "evaluate")
    width = batch.noise["probe/0"].shape[-1]
    signs = np.array(list(itertools.product((-1, 1), repeat=width)), np.int8)
    probes = np.tile(signs, (batch.size, 1, 1))
    all_signs = replace(batch, noise=dict.fromkeys(batch.noise, probes))
    mean = evaluate(model, all_signs, replace(control, probes=len(signs)), "log_prob")
    exact = evaluate(model, Batch(batch.x), replace(control, trace="exact"), "log_prob")
    np.testing.assert_allclose(mean.values["log_prob"], exact.values["log_prob"], rtol=1e-12)


def test_the_variance_is_a_probe_s_over_their_number(
    backend: Backend, open_model: OpenModel
) -> None:
    """Of 4,000 estimates of one log p, by one Gaussian probe and by eight.

    The mean may be off by 4.9 standard errors: 1 false alarm in 10^6, each. The ratio of variances
    is 8; a variance of so many estimates whose kurtosis is at most that of a square of a normal
    number, 15, is known to 6 %, so that the bars are four times its deviation, 1 in 10^4.
    """
    size, variances = 4_000, []
    for probes in (1, 8):
        trial = _trial(backend, "linear", probes)
        model = open_model(trial)
        batch, control = inputs(trial, "evaluate", size)
        same = replace(batch, x=np.broadcast_to(batch.x[:1], batch.x.shape).copy())
        estimates = evaluate(model, same, control, "log_prob").values["log_prob"]
        exact = evaluate(model, Batch(same.x[:1]), replace(control, trace="exact"), "log_prob")
        error = float(np.mean(estimates)) - float(exact.values["log_prob"][0])
        variances.append(float(np.var(estimates)))
        assert abs(error) < 4.9 * math.sqrt(variances[-1] / size)
    assert variances[0] > 1e-6, "the probes are not used"
    assert 8 / 1.4 < variances[0] / variances[1] < 8 * 1.4
