"""The flow: density, inverse, stages, norms, pieces of a block."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from harness_torch.model import TorchModel
from harness_torch.trajectory import distance_to_line

from harness.architecture.noise import draw, noise_slots
from harness.interface import Array, Batch, Control, DataInfo
from harness.streams.stream import Stream
from harness.trial import AdaptiveSolver, BatchNorm, EndTime, FixedSolver, ModelSpec, Trial

OpenModel = Callable[[Trial, int], TorchModel]
BOTH: Any = ("log_prob", "encode")
FINE = FixedSolver("rk4_38", 20)
TIME = EndTime(0.5)
MODELS: list[tuple[ModelSpec, tuple[int, ...]]] = [
    (ModelSpec("concat", (5,), "swish", 2, TIME, batch_norm=BatchNorm(), residual=True), (3,)),
    (ModelSpec("concatsquash", (5, 4), "tanh", 2, TIME, spectral_norm=True), (2, 2)),
    (ModelSpec("blend", (5,), "softplus", 1, TIME, spectral_norm=True, zero_last=False), (3,)),
    (ModelSpec("concat", (3,), "tanh", 1, TIME, strides=(1, 1), scales=2), (1, 4, 4)),
    (
        ModelSpec(
            "squash", (3,), "elu", 1, TIME, (2, -2), 2, batch_norm=BatchNorm(), spectral_norm=True
        ),
        (1, 4, 4),
    ),
]


def _open(trial: Trial, event: tuple[int, ...]) -> TorchModel:
    """A model whose norms and power iterations have left their initial state."""
    model = TorchModel(trial, DataInfo("none", event), "cpu")
    arrays = model.arrays()
    for name, value in arrays.items():
        kind = name.rpartition("/")[2]
        if name.startswith("norm"):
            noise = Stream(9, name).normal(value.shape)
            arrays[name] = np.exp(0.3 * noise) if kind == "running_var" else 0.3 * noise
        elif name.endswith("_u"):
            matrix = arrays[name[:-2]].reshape(len(value), -1)
            left, _, right = np.linalg.svd(matrix)
            # Near the singular vectors, as after some training, and of norm 1.
            for vector, found in ((name, left[:, 0]), (f"{name[:-2]}_v", right[0])):
                moved = found + 0.1 * Stream(9, vector).normal(found.shape)
                arrays[vector] = moved / np.linalg.norm(moved)
    model.load_arrays(arrays)
    return model


def test_density_of_a_plane_integrates_to_one(base_trial: Trial, open_model: OpenModel) -> None:
    """Trapezoidal rule, spectrally accurate for a smooth density that decays within the grid."""
    axis, h = np.linspace(-7, 7, 57, retstep=True)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    solver = AdaptiveSolver("dopri5", rtol=1e-7, atol=1e-7)
    model = open_model(base_trial, 2)
    report = model.evaluate(Batch(grid), Control(solver, "exact"), ("log_prob",))
    density = np.exp(report.values["log_prob"])
    assert density.sum() * h**2 == pytest.approx(1, abs=1e-6)
    assert np.max(np.abs(density - np.exp(-(grid**2).sum(1) / 2) / (2 * math.pi))) > 0.01


@pytest.mark.parametrize(("spec", "event"), MODELS)
def test_the_density_is_the_change_of_variables(
    spec: ModelSpec, event: tuple[int, ...], base_trial: Trial
) -> None:
    """The log-determinant of the Jacobian of the whole map, by central differences."""
    model = _open(replace(base_trial, model=spec), event)
    x, h, size = Stream(0, "x").normal((1, *event)), 1e-5, math.prod(event)
    control = Control(FINE, "exact")
    found = model.evaluate(Batch(x), control, BOTH).values
    moved = x.reshape(1, size) + h * np.concatenate([np.eye(size), -np.eye(size)])
    ends = model.evaluate(Batch(moved.reshape(-1, *event)), control, ("encode",)).values["encode"]
    up, down = ends.reshape(2, size, size)
    log_determinant = np.linalg.slogdet((up - down) / (2 * h))[1]
    base = -0.5 * (found["encode"] ** 2 + np.log(2 * np.pi)).sum()
    assert found["log_prob"][0] == pytest.approx(base + log_determinant, abs=1e-6)
    assert abs(log_determinant) > 1e-3


@pytest.mark.parametrize(("spec", "event"), MODELS)
def test_sample_inverts_encode(spec: ModelSpec, event: tuple[int, ...], base_trial: Trial) -> None:
    model = _open(replace(base_trial, model=spec), event)
    x, control = Stream(0, "x").normal((6, *event)), Control(base_trial.solver, "exact")
    z = model.evaluate(Batch(x), control, ("encode",)).values["encode"]
    assert z.shape == x.shape
    assert np.max(np.abs(z - x)) > 0.1
    back = model.sample(Batch(x[:0], {"base": z}), control)
    np.testing.assert_allclose(back.values["sample"], x, atol=1e-6)


def test_scales_split_and_order_the_pixels_as_released(base_trial: Trial) -> None:
    """With dynamics at rest encode only moves pixels: channels of a squeeze are slowest, then row
    and column of the patch; the second half of them leaves and comes first.
    """
    spec = ModelSpec("concat", (3,), "tanh", 1, TIME, (1, 1), scales=2, zero_last=True)
    model = TorchModel(replace(base_trial, model=spec), DataInfo("none", (2, 4, 4)), "cpu")
    x = np.arange(32.0).reshape(1, 2, 4, 4)
    found = model.evaluate(Batch(x), Control(FINE, "exact"), ("encode",)).values["encode"]
    patches = [x[0, c, i::2, j::2] for c in range(2) for i in range(2) for j in range(2)]
    squeezed = np.stack(patches)
    expected = np.concatenate([squeezed[4:].ravel(), squeezed[:4].ravel()])
    np.testing.assert_array_equal(found.ravel(), expected)


def test_blocks_are_composed_in_order_and_a_is_carried(
    base_trial: Trial, open_model: OpenModel
) -> None:
    """Two blocks equal two one-block flows with their arrays, the second applied to the first."""
    control = Control(base_trial.solver, "exact")
    x = Stream(0, "x").normal((6, 3))
    whole = open_model(base_trial, 3)
    arrays = whole.arrays()
    parts = []
    for block in range(2):
        one = replace(base_trial, model=replace(base_trial.model, blocks=1))
        part = open_model(one, 3)
        prefix = f"block{block}/"
        part.load_arrays(
            {k.replace(prefix, "block0/"): v for k, v in arrays.items() if k.startswith(prefix)}
        )
        parts.append(part)
    first = parts[0].evaluate(Batch(x), control, BOTH).values
    second = parts[1].evaluate(Batch(first["encode"]), control, BOTH).values
    found = whole.evaluate(Batch(x), control, BOTH).values
    np.testing.assert_allclose(found["encode"], second["encode"], rtol=1e-7, atol=1e-8)
    base = -0.5 * (first["encode"] ** 2 + np.log(2 * np.pi)).sum(1)
    expected = second["log_prob"] + first["log_prob"] - base
    np.testing.assert_allclose(found["log_prob"], expected, rtol=1e-7, atol=1e-8)


def test_a_linear_flow_has_the_density_of_a_normal(
    base_trial: Trial, open_model: OpenModel
) -> None:
    """F = -z / 2 over [0, T]: x = z e^{T/2}, so log p(x) = log N(x e^{-T/2}) - D T / 2."""
    T = 0.8
    trial = replace(base_trial, model=ModelSpec("concat", (), "identity", 1, EndTime(T)))
    model = open_model(trial, 3)
    weight = np.concatenate([np.zeros((3, 1)), -0.5 * np.eye(3)], axis=1)
    arrays = {"block0/layer0/weight": weight, "block0/layer0/bias": np.zeros(3)}
    model.load_arrays(model.arrays() | arrays)
    x = Stream(0, "x").normal((5, 3))
    found = model.evaluate(Batch(x), Control(trial.solver, "exact"), ("log_prob",))
    z = x * math.exp(-T / 2)
    expected = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1) - 3 * T / 2
    np.testing.assert_allclose(found.values["log_prob"], expected, rtol=1e-8)


def _train(model: TorchModel, trial: Trial, x: Array, step: int, **noise: Any) -> Any:  # noqa: ANN401
    event = x.shape[1:]
    slots = noise_slots(trial, event, "train", len(x))
    batch = Batch(x, draw(slots, trial.seed, step, trial.dtype) | noise)
    control = Control(trial.solver, trial.training.trace, trial.gradient, step, lr=1e-3)
    return model.train_step(batch, control).fetch()


def test_steer_moves_the_end_time_in_training_alone(base_trial: Trial) -> None:
    spec = ModelSpec("concatsquash", (6,), "tanh", 1, EndTime(0.7))
    plain = replace(base_trial, model=spec)
    x = Stream(0, "x").normal((6, 3))
    u, b = 0.8, 0.2
    moved = replace(plain, model=replace(spec, end_time=EndTime(0.7 + b * (2 * u - 1))))
    steered = replace(plain, regularizer={"steer": b})
    probe = {"probe/0": Stream(0, "eps").normal((6, 3))}
    slot = {"end_time/0": np.array(u)}
    found = _train(_open(steered, (3,)), steered, x, 0, **probe, **slot)
    expected = _train(_open(moved, (3,)), moved, x, 0, **probe)
    assert found.loss == pytest.approx(expected.loss, rel=1e-9)
    assert found.regularizers == {}
    control = Control(plain.solver, "exact")
    evaluated = _open(steered, (3,)).evaluate(Batch(x, slot), control, ("log_prob",))
    still = _open(plain, (3,)).evaluate(Batch(x), control, ("log_prob",))
    np.testing.assert_array_equal(evaluated.values["log_prob"], still.values["log_prob"])


def test_the_distance_to_a_line_is_that_of_least_squares() -> None:
    times = (0.0, 0.3, 0.4, 1.0)
    z = Stream(0, "z").normal((4, 2, 3))
    fit = np.polyfit(times, z.reshape(4, 6), 1)
    residual = z.reshape(4, 6) - np.outer(times, fit[0]) - fit[1]
    expected = (residual**2).reshape(4, 2, 3).sum(axis=(0, 2)) / 4
    found = distance_to_line(times, list(torch.tensor(z)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    line = [torch.tensor([[2.0, -1.0]]).double() * t + 3 for t in times]
    assert float(distance_to_line(times, line)) == pytest.approx(0, abs=1e-28)


@pytest.mark.parametrize("gradient", ["adjoint", "direct"])
def test_tpr_sees_the_trajectory_at_its_times(gradient: Any, base_trial: Trial) -> None:  # noqa: ANN401
    """The states at the times, by solves of their own from 0, and their distance to a line."""
    spec = ModelSpec("concatsquash", (6,), "tanh", 1, EndTime(2.0))
    trial = replace(base_trial, model=spec, regularizer={"tpr": 3.0}, gradient=gradient)
    x, times = Stream(0, "x").normal((6, 3)), np.array([0.7, 0.2])
    probe = {"probe/0": Stream(0, "eps").normal((6, 3))}
    found = _train(_open(trial, (3,)), trial, x, 0, **probe, **{"tpr_times/0": times})
    seen = [x]
    for s in (0.2, 0.7, 1.0):
        part = _open(replace(trial, model=replace(spec, end_time=EndTime(2.0 * s))), (3,))
        control = Control(trial.solver, "exact")
        seen.append(part.evaluate(Batch(x), control, ("encode",)).values["encode"])
    states = [torch.tensor(z) for z in seen]
    expected = distance_to_line((0.0, 0.2, 0.7, 1.0), states).mean()
    assert found.regularizers["tpr"] == pytest.approx(float(expected), rel=1e-6)
    assert float(expected) > 1e-3
    plain = replace(trial, regularizer={})
    without = _train(_open(plain, (3,)), plain, x, 0, **probe)
    assert found.nll == pytest.approx(without.nll, rel=1e-7)
    assert found.loss == pytest.approx(found.nll + 3 * found.regularizers["tpr"], rel=1e-12)
    assert found.nfe.accepted[0] >= 3
