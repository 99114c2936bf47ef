"""The flow: density, inverse, stacked blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np
import pytest
from harness_jax.model import JaxModel

from harness.interface import Batch, Control, DataInfo, Quantity
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    BatchNorm,
    EndTime,
    FixedSolver,
    LayerName,
    ModelSpec,
    RegularizerName,
    Trial,
)

OpenModel = Callable[..., JaxModel]


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


@pytest.mark.parametrize("layer", ["concat", "concatsquash"])
def test_sample_inverts_encode(layer: LayerName, base_trial: Trial, open_model: OpenModel) -> None:
    trial = replace(base_trial, model=replace(base_trial.model, layer=layer))
    model = open_model(trial, 4)
    x = Stream(0, "x").normal((6, 4))
    control = Control(trial.solver, "exact")
    z = model.evaluate(Batch(x), control, ("encode",)).values["encode"]
    assert np.max(np.abs(z - x)) > 0.1
    back = model.sample(Batch(x[:0], {"base": z}), control)
    np.testing.assert_allclose(back.values["sample"], x, atol=1e-7)
    assert len(back.nfe.forward) == 2


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
    both: tuple[Quantity, ...] = ("log_prob", "encode")
    first = parts[0].evaluate(Batch(x), control, both).values
    second = parts[1].evaluate(Batch(first["encode"]), control, both).values
    found = whole.evaluate(Batch(x), control, both).values
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


@pytest.fixture
def shrinking(base_trial: Trial, open_model: OpenModel) -> Callable[..., JaxModel]:
    """(blocks, regularizer) -> a flow with f = -z / 2 over [0, 0.8] in each block."""

    def make(blocks: int, regularizer: dict[RegularizerName, float]) -> JaxModel:
        spec = ModelSpec("ignore", (), "identity", blocks, EndTime(0.8))
        model = open_model(replace(base_trial, model=spec, regularizer=regularizer), 2)
        shrink = {f"block{i}/layer0/weight": -0.5 * np.eye(2) for i in range(blocks)}
        rest = {f"block{i}/layer0/bias": np.zeros(2) for i in range(blocks)}
        model.load_arrays(model.arrays() | shrink | rest)
        return model

    return make


def test_scales_and_norms_by_hand(base_trial: Trial) -> None:
    """Kernels that only look at their pixel, f = -z / 2; norms that only scale by e^c."""
    T, c = 0.8, 0.1
    spec = ModelSpec("ignore", (), "tanh", 1, EndTime(T), (1,), 2, batch_norm=BatchNorm())
    trial = replace(base_trial, model=spec)
    model = JaxModel(trial, DataInfo("image", (1, 4, 4)), jax.devices("cpu")[0], "native")
    arrays = model.arrays()
    for name, value in arrays.items():
        if name.endswith("weight"):
            value[:] = 0
            value[:, :, 1, 1] = -0.5 * np.eye(len(value))
        elif name.endswith(("bias", "log_scale")):
            value[:] = 0 if name.endswith("bias") else c
        elif name.endswith("running_var"):
            value[:] = 1 - 1e-4
    model.load_arrays(arrays)
    x = Stream(0, "x").normal((3, 1, 4, 4))
    control = Control(trial.solver, "exact")
    report = model.evaluate(Batch(x), control, ("log_prob", "encode"))
    # Of each 2x2 patch the lower row leaves after two blocks and three norms, the upper row sees
    # one of each more.
    upper, lower = x[:, 0, ::2], x[:, 0, 1::2]
    split = [np.stack([row[..., ::2], row[..., 1::2]], 1).reshape(3, 8) for row in (lower, upper)]
    z = np.concatenate([split[0] * np.exp(3 * c - T), split[1] * np.exp(4 * c - 1.5 * T)], axis=1)
    found = report.values["encode"].reshape(3, 16)
    np.testing.assert_allclose(found, z, rtol=1e-7)
    log_det = (3 * c - T) * 8 + (4 * c - 1.5 * T) * 8
    expected = -0.5 * (z**2 + np.log(2 * np.pi)).sum(1) + log_det
    np.testing.assert_allclose(report.values["log_prob"], expected, rtol=1e-8)
    alone = model.evaluate(Batch(x), control, ("encode",)).values["encode"]
    np.testing.assert_allclose(alone, report.values["encode"], rtol=1e-7)
    back = model.sample(Batch(x[:0], {"base": report.values["encode"]}), control)
    np.testing.assert_allclose(back.values["sample"], x, rtol=1e-7)
    assert len(report.nfe.forward) == len(back.nfe.forward) == 3


def test_tpr_by_hand(shrinking: Callable[..., JaxModel]) -> None:
    """z(s) = x e^(-0.4 s) in the first block, e^(-0.4) of it in the second."""
    model = shrinking(2, {"tpr": 1.0})
    x = Stream(0, "x").normal((3, 2))
    drawn = {"tpr_times/0": np.array([0.7, 0.2]), "tpr_times/1": np.array([0.5, 0.9])}
    control = Control(AdaptiveSolver("dopri5", 1e-8, 1e-8), "exact")
    report = model.evaluate(Batch(x, drawn), control, ("log_prob", "regularizers"))
    expected = np.zeros(3)
    for block in range(2):
        times = np.sort([0, *drawn[f"tpr_times/{block}"], 1])
        points = np.exp(-0.4 * (times + block))[:, None] * x.reshape(1, -1)
        rest = np.polyfit(times, points, 1, full=True)[1]
        expected += rest.reshape(3, 2).sum(1) / 4
    np.testing.assert_allclose(report.values["regularizers/tpr"], expected, rtol=1e-5)
    plain = model.evaluate(Batch(x), control, ("log_prob",))
    np.testing.assert_allclose(report.values["log_prob"], plain.values["log_prob"], rtol=1e-8)
    # Each piece evaluates the field afresh; only the first looks for a first step.
    for pieces, whole in zip(report.nfe.forward, plain.nfe.forward, strict=True):
        assert (pieces - 1 - 3) % 6 == 0
        assert (whole - 1 - 1) % 6 == 0


def test_steer_moves_the_end_time_in_training(shrinking: Callable[..., JaxModel]) -> None:
    """T = 0.8 + b (2 u - 1); a flow that ends there has the same density."""
    model = shrinking(2, {"steer": 0.5})
    x = Stream(0, "x").normal((4, 2))
    noise = {"end_time/0": np.array(0.9), "end_time/1": np.array(0.2)}
    control = Control(FixedSolver("rk4_classic", 16), "exact", "direct")
    report = model.train_step(Batch(x, noise), control).fetch()
    # A step with lr 0 changes nothing.
    total = 0.8 + 0.5 * 0.8 + 0.8 - 0.5 * 0.6
    z = x * np.exp(-total / 2)
    nll = 0.5 * (z**2 + np.log(2 * np.pi)).sum(1).mean() + total
    assert report.loss == pytest.approx(nll, rel=1e-8)
    assert report.regularizers == {}
    values = model.evaluate(Batch(x), control, ("encode",)).values
    np.testing.assert_allclose(values["encode"], x * np.exp(-0.8), rtol=1e-8)
