"""The model: resume, compilation, shapes, failures, mistakes of the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np
import pytest
from harness_jax.model import JaxModel

from harness.architecture.noise import draw, noise_slots
from harness.errors import BackendError
from harness.interface import Batch, Control, DataInfo
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    BatchNorm,
    FixedSolver,
    GradientName,
    SolverSpec,
    Trial,
)

DIM = 3
OpenModel = Callable[..., JaxModel]
MakeInputs = Callable[..., tuple[Batch, Control]]


@pytest.fixture
def quick_trial(base_trial: Trial) -> Trial:
    """One that compiles fast."""
    return replace(base_trial, solver=FixedSolver("midpoint", 2), gradient="direct")


@pytest.mark.parametrize("gradient", ["adjoint", "direct"])
@pytest.mark.parametrize(
    "solver", [FixedSolver("midpoint", 2), AdaptiveSolver("bosh3", 1e-3, 1e-3, "warm")]
)
def test_resume_is_bitwise(
    solver: SolverSpec,
    gradient: GradientName,
    base_trial: Trial,
    open_model: OpenModel,
    make_inputs: MakeInputs,
) -> None:
    trial = replace(base_trial, gradient=gradient, solver=solver)
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
    assert ("warm/forward" in found) == isinstance(solver, AdaptiveSolver)
    assert found["adam/count"] == 4
    for name, value in expected.items():
        assert found[name].tobytes() == value.tobytes(), name
        assert found[name].dtype == (np.int64 if name == "adam/count" else np.float64)


def test_regularizers_are_reported_and_weighted(
    quick_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    trial = replace(quick_trial, regularizer={"rnode.kinetic": 0.5, "rnode.jacobian": 2.0})
    model = open_model(trial, DIM)
    batch, control = make_inputs(trial, DIM)
    values = model.evaluate(batch, control, ("log_prob", "regularizers")).values
    report = model.train_step(batch, control).fetch()
    assert report.nll is not None
    assert report.nll == pytest.approx(-values["log_prob"].mean(), rel=1e-12)
    assert report.regularizers.keys() == trial.regularizer.keys()
    for name, mean in report.regularizers.items():
        assert mean == pytest.approx(values[f"regularizers/{name}"].mean(), rel=1e-12)
        assert mean > 1e-4
    penalty = sum(w * report.regularizers[name] for name, w in trial.regularizer.items())
    assert report.loss == pytest.approx(report.nll + penalty, rel=1e-12)


def test_one_compilation_serves_all_steps_and_rates(
    quick_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    model = open_model(quick_trial, DIM)
    batch, control = make_inputs(quick_trial, DIM)
    before = model.arrays()
    compiled: list[str] = []

    def note(event: str, duration_secs: float, **_: str | int) -> None:
        compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    model.compile(batch, control)
    for name, value in before.items():
        np.testing.assert_array_equal(model.arrays()[name], value)
    assert any("compile" in event for event in compiled)
    compiled.clear()
    moves = []
    for step, lr in enumerate((1e-2, 1e-3, 0.0)):
        batch, control = make_inputs(quick_trial, DIM, step=step)
        model.train_step(batch, replace(control, step=step, lr=lr)).fetch()
        after = model.arrays()
        moves.append(max(float(np.max(np.abs(after[k] - v))) for k, v in before.items()))
        before = after
    assert [event for event in compiled if "compile" in event] == []
    assert moves[0] == pytest.approx(1e-2, rel=1e-3)
    assert moves[2] == 0 < moves[1]


def test_examples_keep_their_shape(quick_trial: Trial, open_model: OpenModel) -> None:
    """An image flow equals the flow of its flattened pixels; probes may be int8."""
    trial = replace(quick_trial, training=replace(quick_trial.training, probe="rademacher"))
    x = Stream(0, "x").normal((4, 2, 3))
    noise = draw(noise_slots(trial, (2, 3), "train", 4), 0, 0, "float64")
    assert noise["probe/0"].dtype == np.int8
    control = Control(trial.solver, "hutchinson", lr=1e-2, gradient="direct")
    image = JaxModel(trial, DataInfo("image", (2, 3)), jax.devices("cpu")[0], "native")
    found = image.evaluate(Batch(x, noise), control, ("log_prob", "encode")).values
    flat_batch = Batch(x.reshape(4, 6), {k: v.reshape(4, 6) for k, v in noise.items()})
    flat = open_model(trial, 6).evaluate(flat_batch, control, ("log_prob", "encode")).values
    assert found["encode"].shape == (4, 2, 3)
    np.testing.assert_array_equal(found["log_prob"], flat["log_prob"])
    np.testing.assert_array_equal(found["encode"].reshape(4, 6), flat["encode"])
    sample = image.sample(Batch(x[:0], {"base": x}), control)
    assert sample.values["sample"].shape == (4, 2, 3)
    assert image.train_step(Batch(x, noise), control).fetch().failure is None


@pytest.mark.parametrize(
    "solver", [AdaptiveSolver("bosh3", 1e-3, 1e-3, "warm"), FixedSolver("euler", 3)]
)
def test_divergence_is_reported(
    solver: SolverSpec, base_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    """A step that fails updates nothing: no array, no moment, no buffer, no first step."""
    spec = replace(base_trial.model, batch_norm=BatchNorm(), spectral_norm=True)
    trial = replace(base_trial, solver=solver, model=spec)
    model = open_model(trial, DIM)
    batch, control = make_inputs(trial, DIM)
    start = {**model.arrays(), **model.state()}
    assert model.train_step(batch, control).fetch().failure is None
    before = {**model.arrays(), **model.state()}
    counted = {name for name, value in before.items() if np.any(value != start[name])}
    assert {"norm0/steps", "block1/layer0/weight_u", "adam/count"} <= counted
    assert ("warm/backward" in counted) == isinstance(solver, AdaptiveSolver)
    batch.x[2, 1] = np.nan
    assert model.train_step(batch, control).fetch().failure == "non-finite"
    for name, value in {**model.arrays(), **model.state()}.items():
        np.testing.assert_array_equal(value, before[name])
    report = model.evaluate(batch, control, ("log_prob",))
    assert report.failure == "non-finite"
    assert report.values == {}
    assert len(report.nfe.forward) == 2


def test_warm_first_steps(
    base_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    """The heuristic's evaluation is spent in the first training step and in evaluation alone."""
    solver = AdaptiveSolver("bosh3", 1e-4, 1e-4, "warm")
    trial = replace(base_trial, solver=solver, gradient="direct")
    model = open_model(trial, DIM)
    batch, control = make_inputs(trial, DIM)
    np.testing.assert_array_equal(model.state()["warm/forward"], [0, 0])
    for step, heuristic in enumerate((1, 0, 0)):
        nfe = model.train_step(batch, replace(control, step=step)).fetch().nfe
        attempts = np.add(nfe.accepted, nfe.rejected)
        np.testing.assert_array_equal(nfe.forward, 1 + heuristic + 3 * attempts)
        kept = model.state()["warm/forward"]
        assert kept.dtype == np.float64
        np.testing.assert_array_equal(np.frexp(kept)[0], 0.5)
        assert np.all((kept > 1 / (2 * max(nfe.accepted))) & (kept <= 1))
    report = model.evaluate(batch, control, ("log_prob",))
    attempts = np.add(report.nfe.accepted, report.nfe.rejected)
    np.testing.assert_array_equal(report.nfe.forward, 2 + 3 * attempts)
    np.testing.assert_array_equal(model.state()["warm/forward"], kept)


def test_arrays_of_another_model_are_refused(quick_trial: Trial, open_model: OpenModel) -> None:
    model = open_model(quick_trial, DIM)
    arrays = model.arrays()
    with pytest.raises(BackendError, match=r"block0/layer0/bias"):
        model.load_arrays({k: v for k, v in arrays.items() if k != "block0/layer0/bias"})
    with pytest.raises(
        BackendError, match=r"'block0/layer0/bias' has shape \(8,\), expected \(7,\)"
    ):
        model.load_arrays(arrays | {"block0/layer0/bias": np.zeros(8)})
    with pytest.raises(BackendError, match="adam/count"):
        model.load_state({})


def test_missing_noise_is_named(
    quick_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    model = open_model(quick_trial, DIM)
    batch, control = make_inputs(quick_trial, DIM)
    with pytest.raises(BackendError, match="probe/0"):
        model.train_step(replace(batch, noise={}), control)
    with pytest.raises(BackendError, match="base"):
        model.sample(batch, control)


def test_arrays_are_copies(quick_trial: Trial, open_model: OpenModel) -> None:
    model = open_model(quick_trial, DIM)
    before = model.arrays()
    model.arrays()["block0/layer0/bias"][:] = 9
    np.testing.assert_array_equal(
        model.arrays()["block0/layer0/bias"], before["block0/layer0/bias"]
    )
