"""Density and samples: change of variables, the trace estimator, invertibility, batching."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.architecture import initial_arrays
from harness.conformance.cases import DIM, Case, make_trial, tolerance_of
from harness.conformance.inputs import evaluate, inputs, log_standard_normal, with_noise
from harness.conformance.plugin import OpenModel, Subject
from harness.interface import Backend, Batch
from harness.solvers import FIXED_SOLVERS

SMOOTH = Case("concatsquash", "tanh", "exact", "dopri5", "direct")
FIXED = Case("concatsquash", "tanh", "hutchinson", "rk4_38", "direct")


def test_initial_arrays_are_the_architectures(subject: Subject) -> None:
    expected = initial_arrays(subject.trial, (DIM,))
    assert subject.arrays.keys() == expected.keys()
    for name, value in expected.items():
        assert subject.arrays[name].dtype == value.dtype
        assert subject.arrays[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("layer", ["concat", "concatsquash"])
@pytest.mark.parametrize("nonlinearity", ["identity", "softplus", "square", "tanh"])
def test_log_prob_is_the_change_of_variables(
    layer: str, nonlinearity: str, backend: Backend, open_model: OpenModel
) -> None:
    """The Jacobian of `encode` by central differences: log p(x) = log N(z) + log |det dz/dx|."""
    trial = make_trial(Case(layer, nonlinearity, "exact", "dopri5", "direct"), backend.name)
    model = open_model(trial)
    batch, control = inputs(trial, "evaluate")
    values = evaluate(model, batch, control, "log_prob", "encode").values
    h = 1e-4
    columns = []
    for d in range(DIM):
        shift = h * np.eye(DIM)[d]
        ends = [
            evaluate(model, Batch(batch.x + sign * shift), control, "encode").values["encode"]
            for sign in (1, -1)
        ]
        columns.append((ends[0] - ends[1]) / (2 * h))
    log_det = np.linalg.slogdet(np.stack(columns, axis=-1))[1]
    expected = log_standard_normal(np.asarray(values["encode"])) + log_det
    np.testing.assert_allclose(values["log_prob"], expected, atol=1e-6)


def test_hutchinson_averages_to_the_exact_trace(backend: Backend, open_model: OpenModel) -> None:
    """Over all 2^D sign vectors the mean of eps^T J eps is the trace, exactly.

    Under a fixed-step solver the path of z does not depend on the probe, so the identity holds
    for the integral too; a probe redrawn within the solve would break it.
    """
    trial = make_trial(FIXED, backend.name)
    model = open_model(trial)
    batch, control = inputs(trial, "evaluate")
    estimates = []
    for signs in itertools.product((-1.0, 1.0), repeat=DIM):
        probe = {"probe/0": np.tile(np.array(signs), (batch.size, 1))}
        report = evaluate(model, with_noise(batch, probe), control, "log_prob")
        estimates.append(report.values["log_prob"])
    exact_trial = make_trial(Case("concatsquash", "tanh", "exact", "rk4_38", "direct"), "x")
    exact = evaluate(model, *inputs(exact_trial, "evaluate"), "log_prob").values["log_prob"]
    np.testing.assert_allclose(np.mean(estimates, axis=0), exact, rtol=0, atol=1e-12)
    assert np.std(estimates) > 1e-6, "the probe is not used"


def test_density_integrates_to_one(backend: Backend, open_model: OpenModel) -> None:
    """The trapezoidal rule on a grid: spectrally accurate for a smooth density that decays."""
    trial = make_trial(SMOOTH, backend.name, blocks=2)
    axis, h = np.linspace(-8, 8, 41, retstep=True)
    grid = np.stack(np.meshgrid(*[axis] * DIM, indexing="ij"), axis=-1).reshape(-1, DIM)
    _, control = inputs(trial, "evaluate")
    values = evaluate(open_model(trial), Batch(grid), control, "log_prob").values
    assert np.exp(values["log_prob"]).sum() * h**DIM == pytest.approx(1, abs=1e-5)


def test_sample_inverts_encode(subject: Subject) -> None:
    if subject.case.solver in FIXED_SOLVERS:
        pytest.skip("a fixed-step method is not reversible; its order is tested on its own")
    batch, control = inputs(subject.trial, "evaluate")
    z = evaluate(subject.model, batch, control, "log_prob", "encode").values["encode"]
    report = subject.model.sample(Batch(batch.x[:0], {"base": z}), control)
    assert report.failure is None
    atol = 1e4 * tolerance_of(subject.case)
    np.testing.assert_allclose(report.values["sample"], batch.x, atol=atol)


def test_rows_do_not_see_each_other_under_fixed_steps(
    backend: Backend, open_model: OpenModel
) -> None:
    trial = make_trial(FIXED, backend.name, blocks=2)
    model = open_model(trial)
    batch, control = inputs(trial, "evaluate", size=6)
    whole = evaluate(model, batch, control, "log_prob", "encode").values
    order = np.array([3, 0, 5, 1, 4, 2])
    for rows in (order, np.arange(2), np.arange(2, 6)):
        part = Batch(batch.x[rows], {slot: eps[rows] for slot, eps in batch.noise.items()})
        values = evaluate(model, part, control, "log_prob", "encode").values
        np.testing.assert_allclose(values["log_prob"], whole["log_prob"][rows], rtol=1e-13)
        np.testing.assert_allclose(values["encode"], whole["encode"][rows], rtol=1e-12)
