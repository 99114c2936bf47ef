"""The model: resume, precision, shapes, failures, mistakes of the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from harness_torch.model import TorchModel
from harness_torch.precision import PrecisionCheck

from harness.architecture.noise import draw, noise_slots
from harness.errors import BackendError
from harness.interface import Batch, Control, DataInfo
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    BatchNorm,
    EndTime,
    FixedSolver,
    GradientName,
    ModelSpec,
    PrecisionName,
    SolverSpec,
    Trial,
)

DIM = 3
OpenModel = Callable[[Trial, int], TorchModel]
MakeInputs = Callable[..., tuple[Batch, Control]]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("gradient", ["adjoint", "direct"])
def test_resume_is_bitwise(
    gradient: GradientName,
    precision: PrecisionName,
    base_trial: Trial,
    open_model: OpenModel,
    make_inputs: MakeInputs,
) -> None:
    trial = replace(
        base_trial, gradient=gradient, precision=precision, solver=FixedSolver("rk4_38", 2)
    )
    straight, first = open_model(trial, DIM), open_model(trial, DIM)
    for step in range(4):
        straight.train_step(*make_inputs(trial, DIM, step=step)).fetch()
    for step in range(2):
        first.train_step(*make_inputs(trial, DIM, step=step)).fetch()
    resumed = open_model(replace(trial, seed=5), DIM)
    resumed.load_arrays(first.arrays())
    resumed.load_state(first.state())
    for step in range(2, 4):
        resumed.train_step(*make_inputs(trial, DIM, step=step)).fetch()
    expected = {**straight.arrays(), **straight.state()}
    found = {**resumed.arrays(), **resumed.state()}
    assert found.keys() == expected.keys()
    assert found["adam/count"] == 4
    for name, value in expected.items():
        assert found[name].tobytes() == value.tobytes(), name
        assert found[name].dtype == (np.int64 if name == "adam/count" else precision)


def test_regularizers_are_reported_and_weighted(
    base_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    trial = replace(base_trial, regularizer={"rnode.kinetic": 0.5, "rnode.jacobian": 2.0})
    model = open_model(trial, DIM)
    batch, control = make_inputs(trial, DIM)
    values = model.evaluate(batch, control, ("log_prob", "regularizers")).values
    report = model.train_step(batch, control).fetch()
    assert report.nll is not None
    assert report.nll == pytest.approx(-values["log_prob"].mean(), rel=1e-12)
    for name, mean in report.regularizers.items():
        assert mean == pytest.approx(values[f"regularizers/{name}"].mean(), rel=1e-12)
        assert mean > 1e-4
    penalty = sum(w * report.regularizers[name] for name, w in trial.regularizer.items())
    assert report.loss == pytest.approx(report.nll + penalty, rel=1e-12)


def test_examples_keep_their_shape(base_trial: Trial, open_model: OpenModel) -> None:
    """An image flow equals the flow of its flattened pixels."""
    trial = replace(base_trial, training=replace(base_trial.training, probe="rademacher"))
    x = Stream(0, "x").normal((4, 2, 3))
    slots = noise_slots(trial, (2, 3), "train", 4)
    noise = draw(slots, 0, 0, "float64")
    assert noise["probe/0"].dtype == np.int8
    control = Control(trial.solver, "hutchinson")
    image = TorchModel(trial, DataInfo("image", (2, 3)), "cpu")
    found = image.evaluate(Batch(x, noise), control, ("log_prob", "encode")).values
    flat_noise = {k: v.reshape(4, 6) for k, v in noise.items()}
    flat = open_model(trial, 6).evaluate(
        Batch(x.reshape(4, 6), flat_noise), control, ("log_prob", "encode")
    )
    assert found["encode"].shape == (4, 2, 3)
    np.testing.assert_array_equal(found["log_prob"], flat.values["log_prob"])
    np.testing.assert_array_equal(found["encode"].reshape(4, 6), flat.values["encode"])
    sample = image.sample(Batch(x[:0], {"base": x}), control)
    assert sample.values["sample"].shape == (4, 2, 3)


@pytest.mark.parametrize("solver", [None, FixedSolver("rk4_38", 3)])
def test_divergence_is_reported(
    solver: FixedSolver | None, base_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    trial = replace(base_trial, solver=solver or base_trial.solver)
    model = open_model(trial, DIM)
    batch, control = make_inputs(trial, DIM)
    batch.x[2, 1] = np.nan
    assert model.train_step(batch, control).fetch().failure == "non-finite"
    report = open_model(trial, DIM).evaluate(batch, control, ("log_prob",))
    assert report.failure == "non-finite"
    assert report.values == {}
    assert len(report.nfe.forward) == 2


def test_arrays_of_another_model_are_refused(base_trial: Trial, open_model: OpenModel) -> None:
    model = open_model(base_trial, DIM)
    arrays = model.arrays()
    with pytest.raises(BackendError, match=r"block0/layer0/bias"):
        model.load_arrays({k: v for k, v in arrays.items() if k != "block0/layer0/bias"})
    with pytest.raises(
        BackendError, match=r"'block0/layer0/bias' has shape \(8,\), expected \(7,\)"
    ):
        model.load_arrays(arrays | {"block0/layer0/bias": np.zeros(8)})


def test_arrays_are_copies(base_trial: Trial, open_model: OpenModel) -> None:
    model = open_model(base_trial, DIM)
    before = model.arrays()
    model.arrays()["block0/layer0/bias"][:] = 9
    np.testing.assert_array_equal(
        model.arrays()["block0/layer0/bias"], before["block0/layer0/bias"]
    )


def test_warm_steps_start_where_the_last_step_came_to(
    base_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    """The first training step needs the heuristic; later ones do not, and evaluations always do.
    Restored, the steps are taken bitwise.
    """
    trial = replace(base_trial, solver=replace(base_trial.solver, first_step="warm"))  # type: ignore[arg-type]
    model, again = open_model(trial, DIM), open_model(replace(trial, seed=5), DIM)
    names = ("warm/forward", "warm/backward")
    assert all(np.all(model.state()[name] == 0) for name in names)
    cold = model.train_step(*make_inputs(trial, DIM)).fetch()
    for name in names:
        steps = model.state()[name]
        assert steps.shape == (2,)
        assert steps.dtype == np.float64
        mantissas, exponents = np.frexp(steps)
        assert np.all(mantissas == 0.5), "not powers of two"
        assert np.all((exponents <= 1) & (exponents > -20))
    again.load_arrays(model.arrays())
    again.load_state(model.state())
    warm = model.train_step(*make_inputs(trial, DIM, step=1)).fetch()
    # dopri5: 6 an attempt, 1 at the start and 1 for the heuristic.
    attempts = [a + r for a, r in zip(cold.nfe.accepted, cold.nfe.rejected, strict=True)]
    assert cold.nfe.forward == tuple(2 + 6 * n for n in attempts)
    attempts = [a + r for a, r in zip(warm.nfe.accepted, warm.nfe.rejected, strict=True)]
    assert warm.nfe.forward == tuple(1 + 6 * n for n in attempts)
    assert sum(warm.nfe.forward) < sum(cold.nfe.forward)
    assert again.train_step(*make_inputs(trial, DIM, step=1)).fetch().loss == warm.loss
    for name in names:
        np.testing.assert_array_equal(again.state()[name], model.state()[name])
    batch, control = make_inputs(trial, DIM)
    heuristic = open_model(base_trial, DIM)
    heuristic.load_arrays(model.arrays())
    expected = heuristic.evaluate(batch, replace(control, solver=base_trial.solver), ("log_prob",))
    found = model.evaluate(batch, control, ("log_prob",))
    assert found.nfe == expected.nfe
    np.testing.assert_array_equal(found.values["log_prob"], expected.values["log_prob"])


def _conv_step(trial: Trial, event: tuple[int, ...], solver: SolverSpec) -> TorchModel:
    """A model after one step of a training on images."""
    model = TorchModel(trial, DataInfo("none", event), "cpu")
    noise = draw(noise_slots(trial, event, "train", 3), 0, 0, "float64")
    x = Stream(0, "x").normal((3, *event))
    control = Control(solver, trial.training.trace, trial.gradient, 0, 1e-3)
    assert model.train_step(Batch(x, noise), control).fetch().failure is None
    return model


def test_modes_agree_on_everything_at_once(base_trial: Trial) -> None:
    """Scales, norms, spectral norm, swish, a trained end time, every kind of penalty: the adjoint
    and the direct gradient (first moments after one step of Adam) agree at a tight tolerance.
    """
    model = ModelSpec(
        "concatcoord",
        (3,),
        "swish",
        1,
        EndTime(0.5, "trained"),
        (2, -2),
        scales=2,
        batch_norm=BatchNorm(0.3),
        spectral_norm=True,
        residual=True,
    )
    penalties: dict[Any, float] = {
        "rnode.total": 0.1,
        "taylor_3": 0.01,
        "ffjord.jfrob": 0.1,
        "tpr": 1.0,
        "steer": 0.1,
    }
    solver = AdaptiveSolver("dopri5", rtol=1e-8, atol=1e-8)
    found = []
    for gradient in ("adjoint", "direct"):
        trial = replace(base_trial, model=model, regularizer=penalties, gradient=gradient)
        state = _conv_step(trial, (1, 4, 4), solver).state()
        found.append({k: v for k, v in state.items() if k.startswith("adam/m/")})
    scale = max(np.max(np.abs(v)) for v in found[0].values())
    assert "adam/m/swish_beta" in found[0]
    for name, moment in found[0].items():
        assert np.any(moment), name
        np.testing.assert_allclose(found[1][name], moment, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize(
    ("regularizer", "slot"), [("steer", "end_time/0"), ("tpr", "tpr_times/0")]
)
def test_missing_noise_is_named(
    regularizer: Any,  # noqa: ANN401
    slot: str,
    base_trial: Trial,
    open_model: OpenModel,
    make_inputs: MakeInputs,
) -> None:
    trial = replace(base_trial, regularizer={regularizer: 0.1})
    batch, control = make_inputs(trial, DIM)
    batch = replace(batch, noise={k: v for k, v in batch.noise.items() if k != slot})
    with pytest.raises(BackendError, match=slot):
        open_model(trial, DIM).train_step(batch, control)


def test_a_model_that_does_not_fit_the_data_is_refused(base_trial: Trial) -> None:
    trial = replace(base_trial, model=ModelSpec("concat", (3,), strides=(2, 1)))
    with pytest.raises(BackendError, match="must return the shape they were given"):
        TorchModel(trial, DataInfo("none", (1, 4, 4)), "cpu")


def test_another_precision_than_the_trials_is_found_out(
    base_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    """A processor has no TF32, so a trial that asks for it ends at its first solve."""
    trial = replace(base_trial, precision="tf32")
    model = open_model(trial, DIM)
    x = np.ones((2, DIM), np.float32)
    with pytest.raises(BackendError, match="asks for tf32, but this process computes in float32"):
        model.evaluate(Batch(x), Control(trial.solver, "exact"), ("log_prob",))
    check = PrecisionCheck("float32")
    with pytest.raises(BackendError, match="asks for float32, but this process computes in flo"):
        check.of_state(torch.zeros(2, dtype=torch.float64))
