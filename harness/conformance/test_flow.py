"""What makes a flow a flow, whatever the oracle says: densities, inverses, probes, rows."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from harness.conformance.cases import Case, make_trial
from harness.conformance.inputs import evaluate, inputs
from harness.conformance.oracle.flow import log_standard_normal
from harness.conformance.plugin import OpenModel
from harness.interface import Backend, Batch
from harness.trial import AdaptiveSolver, BatchNorm, Trial

SMOOTH = Case("concatsquash", "tanh", "exact", "dopri5", "direct", "linear")
FIXED = Case("concatsquash", "tanh", "hutchinson", "rk4_38", "direct", "linear")


def _accurate(trial: Trial) -> Trial:
    """At tolerance 1e-9: what is compared is the solution, not its discretisation."""
    return replace(trial, solver=AdaptiveSolver("dopri5", rtol=1e-9, atol=1e-9))


def _smooth_models(backend: Backend) -> dict[str, Trial]:
    image = replace(SMOOTH, layer="concat", nonlinearity="softplus", form="convolution")
    norm = BatchNorm()
    return {
        "linear": _accurate(make_trial(SMOOTH, backend.name, blocks=2, batch_norm=norm)),
        "image": _accurate(make_trial(image, backend.name, scales=2, batch_norm=norm)),
    }


@pytest.mark.parametrize("name", ["image", "linear"])
def test_log_prob_is_the_change_of_variables(
    name: str, backend: Backend, open_model: OpenModel
) -> None:
    """The Jacobian of `encode` by central differences: log p(x) = log N(z) + log |det dz/dx|.

    All shifts of all examples go through one batch.
    """
    trial = _smooth_models(backend)[name]
    model = open_model(trial)
    batch, control = inputs(trial, "evaluate")
    size = batch.x[0].size
    values = evaluate(model, batch, control, "log_prob", "encode").values
    h = 1e-4
    shifts = h * np.concatenate([np.eye(size), -np.eye(size)]).reshape(-1, 1, *batch.x.shape[1:])
    shifted = (batch.x + shifts).reshape(-1, *batch.x.shape[1:])
    ends = evaluate(model, Batch(shifted), control, "encode").values["encode"]
    forward, backward = ends.reshape(2, size, batch.size, size)
    jacobian = (forward - backward).transpose(1, 0, 2) / (2 * h)
    log_det = np.linalg.slogdet(jacobian)[1]
    expected = log_standard_normal(values["encode"]) + log_det
    # Differences: h^2 times a third derivative of order 1, and tolerance / h.
    np.testing.assert_allclose(values["log_prob"], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["image", "linear"])
def test_sample_inverts_encode(name: str, backend: Backend, open_model: OpenModel) -> None:
    trial = _smooth_models(backend)[name]
    model = open_model(trial)
    batch, control = inputs(trial, "evaluate")
    z = evaluate(model, batch, control, "encode").values["encode"]
    log_prob = evaluate(model, batch, control, "log_prob").values["log_prob"]
    for density in (False, True):
        report = model.sample(Batch(batch.x[:0], {"base": z}), control, density=density)
        assert report.failure is None
        # Two solves at tolerance 1e-9 and the growth of their errors.
        np.testing.assert_allclose(report.values["sample"], batch.x, atol=1e-7)
        assert ("log_prob" in report.values) == density
    np.testing.assert_allclose(report.values["log_prob"], log_prob, atol=1e-7)


def test_density_integrates_to_one(backend: Backend, open_model: OpenModel) -> None:
    """The trapezoidal rule on a grid: spectrally accurate for a smooth density that decays."""
    trial = make_trial(SMOOTH, backend.name, blocks=2)
    trial = replace(trial, solver=AdaptiveSolver("dopri5", rtol=1e-7, atol=1e-7))
    axis, h = np.linspace(-7, 7, 29, retstep=True)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    _, control = inputs(trial, "evaluate")
    values = evaluate(open_model(trial), Batch(grid), control, "log_prob").values
    assert np.exp(values["log_prob"]).sum() * h**3 == pytest.approx(1, abs=1e-5)


def test_hutchinson_averages_to_the_exact_trace(backend: Backend, open_model: OpenModel) -> None:
    """Over all 2^D sign vectors the mean of eps^T J eps is the trace, exactly.

    Under a fixed-step solver the path of z does not depend on the probe, so the identity holds
    for the integral too; a probe redrawn within the solve would break it.
    """
    trial = make_trial(FIXED, backend.name)
    model = open_model(trial)
    batch, control = inputs(trial, "evaluate")
    estimates = []
    for signs in itertools.product((-1, 1), repeat=batch.x[0].size):
        # Rademacher probes cross the interface as int8.
        probe = {"probe/0": np.tile(np.array(signs, np.int8), (batch.size, 1))}
        report = evaluate(model, replace(batch, noise=probe), control, "log_prob")
        estimates.append(report.values["log_prob"])
    exact = evaluate(model, Batch(batch.x), replace(control, trace="exact"), "log_prob")
    np.testing.assert_allclose(np.mean(estimates, axis=0), exact.values["log_prob"], rtol=1e-12)
    assert np.std(estimates, axis=0).min() > 1e-6, "the probe is not used"


def test_rows_do_not_see_each_other_under_fixed_steps(
    backend: Backend, open_model: OpenModel
) -> None:
    trial = make_trial(FIXED, backend.name, blocks=2)
    model = open_model(trial)
    batch, control = inputs(trial, "evaluate", size=4)
    whole = evaluate(model, batch, control, "log_prob", "encode").values
    for rows in (np.array([3, 0, 1, 2]), np.array([2, 3])):
        part = Batch(batch.x[rows], {slot: eps[rows] for slot, eps in batch.noise.items()})
        values = evaluate(model, part, control, "log_prob", "encode").values
        # Matrix products of other sizes may round differently.
        np.testing.assert_allclose(values["log_prob"], whole["log_prob"][rows], rtol=1e-13)
        np.testing.assert_allclose(values["encode"], whole["encode"][rows], rtol=1e-12)


def test_the_seed_decides(backend: Backend, open_model: OpenModel) -> None:
    """Equal trials give equal numbers, another seed others; what one model did changes nothing."""
    trial = make_trial(FIXED, backend.name)
    outcomes = []
    for seed in (5, 5, 6):
        own = replace(trial, seed=seed)
        model = open_model(own)
        losses = [model.train_step(*inputs(own, step=k)).fetch().loss for k in range(2)]
        outcomes.append((losses, model.arrays()["block0/layer0/weight"].tobytes()))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0][0] != outcomes[2][0][0]
