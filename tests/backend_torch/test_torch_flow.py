"""The flow: density, inverse, stacked blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from harness_torch.model import TorchModel

from harness.interface import Batch, Control
from harness.streams import Stream
from harness.trial import AdaptiveSolver, EndTime, ModelSpec, Trial

OpenModel = Callable[[Trial, int], TorchModel]


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
def test_sample_inverts_encode(layer: str, base_trial: Trial, open_model: OpenModel) -> None:
    trial = replace(base_trial, model=replace(base_trial.model, layer=layer))  # type: ignore[arg-type]
    model = open_model(trial, 4)
    x = Stream(0, "x").normal((6, 4))
    control = Control(trial.solver, "exact")
    z = model.evaluate(Batch(x), control, ("encode",)).values["encode"]
    assert np.max(np.abs(z - x)) > 0.1
    back = model.sample(Batch(x[:0], {"base": z}), control)
    np.testing.assert_allclose(back.values["sample"], x, atol=1e-7)


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
    both = ("log_prob", "encode")
    first = parts[0].evaluate(Batch(x), control, both).values  # type: ignore[arg-type]
    second = parts[1].evaluate(Batch(first["encode"]), control, both).values  # type: ignore[arg-type]
    found = whole.evaluate(Batch(x), control, both).values  # type: ignore[arg-type]
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
