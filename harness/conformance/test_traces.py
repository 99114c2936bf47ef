"""Estimated traces: against the oracle, without bias, and with the variance they should have.

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

SIZE = 4_000
LINEAR = Case("concatsquash", "tanh", "hutchinson", "rk4_38", "direct", "linear")
MODELS: dict[str, tuple[Case, dict[str, Any]]] = {
    "linear": (LINEAR, {}),
    "adaptive, adjoint": (replace(LINEAR, solver="dopri5", gradient="adjoint"), {}),
    "residual": (replace(LINEAR, gradient="checkpoint"), {"residual": True, "blocks": 2}),
    "bottleneck": (replace(LINEAR, trace="bottleneck"), {}),
    "image": (replace(LINEAR, form="convolution"), {}),
    "image, bottleneck": (replace(LINEAR, form="convolution", trace="bottleneck"), {}),
    "autoencoder": (LINEAR, {"posterior": Posterior(3, "low_rank", rank=2)}),
    "hutch++": (replace(LINEAR, trace="hutch++"), {"residual": True, "blocks": 2}),
    "adaptive": (replace(LINEAR, solver="bosh3"), {}),
}


def _trial(backend: Backend, name: str, probes: int, draws: int = 1) -> Trial:
    case, fields = MODELS[name]
    trial = make_trial(case, backend.name, **fields)
    return replace(
        trial,
        training=replace(trial.training, probes=probes, draws=draws),
        evaluation=replace(trial.evaluation, probes=probes, draws=draws),
    )


@pytest.mark.parametrize(
    ("name", "probes", "draws"),
    [
        *((name, 3, 1) for name in MODELS if name not in ("hutch++", "adaptive")),
        ("hutch++", 6, 7),
        ("adaptive", 1, 5),
    ],
)
def test_several_probes(
    name: str, probes: int, draws: int, backend: Backend, open_model: OpenModel
) -> None:
    trial = _trial(backend, name, probes, draws)
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


@pytest.mark.parametrize("name", ["linear", "residual", "bottleneck", "hutch++"])
def test_all_signs_together_give_the_exact_trace(
    name: str, backend: Backend, open_model: OpenModel
) -> None:
    """The mean over all 2^D sign vectors is the trace, exactly: no bias, and nothing by chance.

    That of `hutch++`, too, whatever the space: here of one vector, which all of S repeats.
    """
    trial = _trial(backend, name, 3 if name == "hutch++" else 2)
    model = open_model(trial)
    batch, control = inputs(trial, "evaluate")
    width = batch.noise["probe/0"].shape[-1]
    signs = np.array(list(itertools.product((-1, 1), repeat=width)), np.int8)
    count = len(signs)
    if name == "hutch++":
        signs, count = np.concatenate([np.tile(signs[:1], (count, 1)), signs]), 3 * count
    probes = np.tile(signs, (batch.size, 1, 1))
    all_signs = replace(batch, noise=dict.fromkeys(batch.noise, probes))
    mean = evaluate(model, all_signs, replace(control, probes=count), "log_prob")
    exact = evaluate(model, Batch(batch.x), replace(control, trace="exact"), "log_prob")
    np.testing.assert_allclose(mean.values["log_prob"], exact.values["log_prob"], rtol=1e-12)


def _variance(backend: Backend, open_model: OpenModel, *estimate: Any) -> float:  # noqa: ANN401
    """That of `SIZE` estimates of one log p, whose mean may be off by 4.9 standard errors: 1 false
    alarm in 10^6.
    """
    trial = _trial(backend, *estimate)
    model = open_model(trial)
    batch, control = inputs(trial, "evaluate", SIZE)
    same = replace(batch, x=np.broadcast_to(batch.x[:1], batch.x.shape).copy())
    estimates = evaluate(model, same, control, "log_prob").values["log_prob"]
    plain = replace(control, trace="exact", probes=1, draws=1)
    exact = evaluate(model, Batch(same.x[:1]), plain, "log_prob").values["log_prob"]
    variance = float(np.var(estimates))
    assert abs(float(np.mean(estimates)) - float(exact[0])) < 4.9 * math.sqrt(variance / SIZE)
    return variance


def test_the_variance_is_a_probe_s_over_their_number(
    backend: Backend, open_model: OpenModel
) -> None:
    """By one Gaussian probe and by eight.

    The ratio of variances is 8; a variance of so many estimates whose kurtosis is at most that of
    a square of a normal number, 15, is known to 6 %, so that the bars are four times its
    deviation, 1 in 10^4.
    """
    one, eight = (_variance(backend, open_model, "linear", probes) for probes in (1, 8))
    assert one > 1e-6, "the probes are not used"
    assert 8 / 1.4 < one / eight < 8 * 1.4


def test_other_estimates_have_no_bias(backend: Backend, open_model: OpenModel) -> None:
    """Hutch++, and probes that are drawn at each evaluation: those vary less than one for all.

    Stages weigh at most 3/8 of one of three steps, so that the variance falls; on this net to an
    eighth, and the bar is far from both.
    """
    assert _variance(backend, open_model, "hutch++", 3) > 1e-6, "the probes are not used"
    fixed, anew = (_variance(backend, open_model, "linear", 1, draws) for draws in (1, 10))
    assert anew < 0.6 * fixed
