"""Moving batch norm and spectral norm over training steps, against FFJORD's code in numpy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from harness_torch.model import TorchModel

from harness.architecture.noise import draw, noise_slots
from harness.errors import BackendError
from harness.interface import Array, Batch, Control, DataInfo
from harness.streams.stream import Stream
from harness.trial import BatchNorm, EndTime, FixedSolver, ModelSpec, Trial

EVENTS: list[tuple[tuple[int, ...], Any]] = [((3,), None), ((2, 4, 4), (1, 1))]


def _model(trial: Trial, event: tuple[int, ...]) -> TorchModel:
    return TorchModel(trial, DataInfo("none", event), "cpu")


def _train(model: TorchModel, trial: Trial, x: Array, step: int) -> Any:  # noqa: ANN401
    noise = draw(noise_slots(trial, x.shape[1:], "train", len(x)), 0, step, trial.dtype)
    control = Control(trial.solver, trial.training.trace, trial.gradient, step, lr=1e-3)
    return model.train_step(Batch(x, noise), control).fetch()


@pytest.mark.parametrize(("event", "strides"), EVENTS)
@pytest.mark.parametrize("lag", [0.0, 0.6])
def test_the_first_norm_over_two_steps(
    lag: float,
    event: tuple[int, ...],
    strides: Any,  # noqa: ANN401
    base_trial: Trial,
) -> None:
    """A net at rest leaves two norms; of the first we know the input, and thus the loss."""
    spec = ModelSpec(
        "concat",
        (3,),
        "tanh",
        1,
        EndTime(0.5),
        strides,
        batch_norm=BatchNorm(lag, 0.2),
        zero_last=True,
    )
    trial = replace(base_trial, model=spec, solver=FixedSolver("rk4_38", 1))
    model = _model(trial, event)
    axes, pixels = (0, *range(2, 1 + len(event))), int(np.prod(event[1:]))
    start = {"m": np.zeros(event[0]), "v": np.ones(event[0])}
    running = [dict(start), dict(start)]
    for step in range(2):
        frozen = model.arrays()
        assert np.all(frozen["norm0/log_scale"] == 0) == (step == 0)
        # Only the statistics are of interest: the trained arrays go back to where they started.
        model.load_arrays(
            {k: np.zeros_like(v) if "scale" in k or "shift" in k else v for k, v in frozen.items()}
            | {k: np.zeros_like(v) for k, v in frozen.items() if k.startswith("block0/layer1")}
        )
        x = 1 + 2 * Stream(0, "x", step).normal((8, *event))
        h, a = x, 0.0
        for stats in running:
            mean, variance = h.mean(axes), h.var(axes, ddof=1)
            used = dict(stats)
            if lag:
                correction = 1 - lag ** (step + 1)
                used["m"] = (mean - (1 - lag) * (mean - stats["m"])) / correction
                used["v"] = (variance - (1 - lag) * (variance - stats["v"])) / correction
            stats["m"] = stats["m"] - 0.2 * (stats["m"] - mean)
            stats["v"] = stats["v"] - 0.2 * (stats["v"] - variance)
            one_pixel = (-1, *[1] * (len(event) - 1))
            scale = 1 / np.sqrt(used["v"] + 1e-4)
            h = (h - used["m"].reshape(one_pixel)) * scale.reshape(one_pixel)
            a -= pixels * np.log(scale).sum()
        report = _train(model, trial, x, step)
        base = -0.5 * (h**2 + np.log(2 * np.pi)).reshape(8, -1).sum(1).mean()
        assert report.nll == pytest.approx(a - base, rel=1e-10)
        arrays = model.arrays()
        for index, stats in enumerate(running):
            np.testing.assert_allclose(arrays[f"norm{index}/running_mean"], stats["m"], rtol=1e-10)
            np.testing.assert_allclose(arrays[f"norm{index}/running_var"], stats["v"], rtol=1e-10)
            assert arrays[f"norm{index}/steps"] == step + 1


def _statistics(model: TorchModel) -> dict[str, Array]:
    kinds = ("running_mean", "running_var", "steps", "weight_u", "weight_v")
    return {k: v for k, v in model.arrays().items() if k.endswith(kinds)}


def test_only_a_training_step_that_succeeds_changes_buffers(base_trial: Trial) -> None:
    spec = replace(base_trial.model, batch_norm=BatchNorm(), spectral_norm=True)
    trial = replace(base_trial, model=spec)
    model, x = _model(trial, (3,)), Stream(0, "x").normal((6, 3))
    before = _statistics(model)
    assert len(before) == 3 * 3 + 2 * 3 * 2
    model.evaluate(Batch(x), Control(trial.solver, "exact"), ("log_prob",))
    bad = x.copy()
    bad[0, 0] = np.inf
    assert _train(model, trial, bad, 0).failure == "non-finite"
    for name, value in _statistics(model).items():
        np.testing.assert_array_equal(value, before[name])
    assert _train(model, trial, x, 0).failure is None
    for name, value in _statistics(model).items():
        assert not np.array_equal(value, before[name]), name


def test_a_batch_of_one_has_no_variance(base_trial: Trial) -> None:
    trial = replace(base_trial, model=replace(base_trial.model, batch_norm=BatchNorm()))
    with pytest.raises(BackendError, match="at least 2"):
        _train(_model(trial, (3,)), trial, np.ones((1, 3)), 0)


@pytest.mark.parametrize("layer", ["concatsquash", "blend"])
def test_spectral_norm_turns_once_a_step_and_divides(layer: Any, base_trial: Trial) -> None:  # noqa: ANN401
    """A flow of arrays divided by hand has the same density; the vectors are one turn on."""
    spec = ModelSpec(layer, (5,), "tanh", 1, EndTime(0.5), spectral_norm=True)
    trial = replace(base_trial, model=spec)
    model, x = _model(trial, (3,)), Stream(0, "x").normal((6, 3))
    control = Control(trial.solver, "exact")
    before = model.arrays()
    report = _train(model, trial, x, 0)
    after = model.arrays()
    turned = {}
    for name, weight in before.items():
        if f"{name}_u" in before:
            v = weight.T @ before[f"{name}_u"]
            v /= np.linalg.norm(v)
            u = weight @ v
            u /= np.linalg.norm(u)
            np.testing.assert_allclose(after[f"{name}_u"], u, rtol=1e-12)
            np.testing.assert_allclose(after[f"{name}_v"], v, rtol=1e-12)
            turned[name] = weight / (u @ weight @ v)
        elif name.endswith(("gate_weight", "time_weight")):
            turned[name] = weight / np.linalg.norm(weight)
    plain_trial = replace(trial, model=replace(spec, spectral_norm=False))
    plain = _model(plain_trial, (3,))
    plain.load_arrays({name: turned.get(name, before[name]) for name in plain.arrays()})
    assert report.nll == pytest.approx(_train(plain, plain_trial, x, 0).nll, rel=1e-9)
    # An evaluation takes the stored vectors and turns nothing.
    first = model.evaluate(Batch(x), control, ("log_prob",)).values["log_prob"]
    again = model.evaluate(Batch(x), control, ("log_prob",)).values["log_prob"]
    np.testing.assert_array_equal(first, again)
