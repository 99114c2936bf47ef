"""The model: resume, precision, shapes, failures, mistakes of the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from harness_torch.model import TorchModel

from harness.errors import BackendError
from harness.interface import Batch, Control, DataInfo
from harness.noise import draw, noise_slots
from harness.streams import Stream
from harness.trial import FixedSolver, GradientName, PrecisionName, Trial

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
