"""Gradients: against differences, across modes and engines; the adjoint's own counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness_jax.model import JaxModel
from harness_jax.solve.adjoint import new_ledger
from harness_jax.solve.engines import FirstSteps, How, get_engine
from harness_jax.solve.gradients import solve_block
from harness_jax.solve.problem import InitialValue, Inputs, Tree, rates_of

from harness.interface import Array, Batch, Control
from harness.streams.stream import Stream
from harness.trial import AdaptiveSolver, EndTime, FixedSolver, GradientName, LayerName, Trial

DIM = 3
OpenModel = Callable[..., JaxModel]
MakeInputs = Callable[..., tuple[Batch, Control]]
RNODE: Mapping[Any, float] = {"rnode.jacobian": 0.3, "rnode.kinetic": 0.2}


def _gradient(model: JaxModel, batch: Batch, control: Control) -> dict[str, Array]:
    """The gradient, from the first moment of the first step of Adam; the arrays stay."""
    before = model.arrays()
    assert model.train_step(batch, control).fetch().failure is None
    model.load_arrays(before)
    moments = model.state().items()
    return {k.removeprefix("adam/m/"): 10 * v for k, v in moments if k.startswith("adam/m/")}


@pytest.mark.parametrize(
    ("layer", "trace", "regularizer"),
    [("concat", "exact", {}), ("concatsquash", "hutchinson", RNODE)],
)
def test_direct_gradient_is_that_of_the_discrete_solution(
    layer: LayerName,
    trace: Any,  # noqa: ANN401
    regularizer: Mapping[Any, float],
    base_trial: Trial,
    open_model: OpenModel,
    make_inputs: MakeInputs,
) -> None:
    """Central differences of the loss under fixed steps, where it is a smooth function."""
    trial = replace(
        base_trial,
        solver=FixedSolver("rk4_38", 3),
        model=replace(base_trial.model, layer=layer),
        training=replace(base_trial.training, trace=trace),
        regularizer=regularizer,
        gradient="direct",
    )
    batch, control = make_inputs(trial, DIM)
    model = open_model(trial, DIM)
    start = model.arrays()
    gradient = _gradient(model, batch, control)
    direction = {k: Stream(5, k).normal(v.shape) for k, v in gradient.items()}
    assert "block1/sqrt_end_time" in direction
    h, losses = 1e-5, []
    for sign in (1, -1):
        model.load_arrays(start | {k: start[k] + sign * h * v for k, v in direction.items()})
        losses.append(model.train_step(batch, control).fetch().loss)
    along = sum(float(np.sum(gradient[k] * v)) for k, v in direction.items())
    assert along == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-7)


@pytest.mark.parametrize(
    ("norm", "trace", "regularizer"),
    [("mixed", "hutchinson", RNODE), ("rms_all", "exact", {})],
)
def test_modes_agree_at_a_tight_tolerance(
    norm: Any,  # noqa: ANN401
    trace: Any,  # noqa: ANN401
    regularizer: Mapping[Any, float],
    base_trial: Trial,
    open_model: OpenModel,
    make_inputs: MakeInputs,
) -> None:
    trial = replace(
        base_trial,
        model=replace(base_trial.model, hidden=(7,)),
        solver=AdaptiveSolver("dopri5", rtol=1e-10, atol=1e-10, norm=norm),
        training=replace(base_trial.training, trace=trace),
        regularizer=regularizer,
    )
    modes: dict[GradientName, float] = {"direct": 0, "checkpoint": 1e-13, "adjoint": 1e-8}
    found = {}
    for mode in modes:
        of_mode = replace(trial, gradient=mode)
        found[mode] = _gradient(open_model(of_mode, DIM), *make_inputs(of_mode, DIM))
    scale = max(float(np.max(np.abs(v))) for v in found["direct"].values())
    for mode, tolerance in modes.items():
        assert found[mode].keys() == found["direct"].keys()
        for name, value in found["direct"].items():
            np.testing.assert_allclose(found[mode][name], value, atol=tolerance * scale, rtol=0)


def test_training_steps_agree_across_engines(
    base_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    """Equal counts, backward too, and equal numbers, over three steps of two blocks."""
    solver = AdaptiveSolver("bosh3", rtol=1e-4, atol=1e-4)
    trial = replace(base_trial, solver=solver, gradient="adjoint", regularizer=RNODE)
    models = [open_model(trial, DIM, engine) for engine in ("native", "library")]
    for step in range(3):
        batch, control = make_inputs(trial, DIM, step=step)
        ours, theirs = (model.train_step(batch, control).fetch() for model in models)
        assert ours.nfe == theirs.nfe
        assert len(ours.nfe.backward) == 2
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-13)
    for name, value in models[0].state().items():
        np.testing.assert_allclose(models[1].state()[name], value, rtol=1e-9, atol=1e-14)


def test_an_inert_end_time_gets_no_gradient(
    base_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    inert = replace(base_trial.model, end_time=EndTime(0.7, "inert"))
    trial = replace(base_trial, model=inert, gradient="direct", solver=FixedSolver("euler", 2))
    model = open_model(trial, DIM)
    before = model.arrays()["block0/sqrt_end_time"]
    model.train_step(*make_inputs(trial, DIM)).fetch()
    assert "adam/m/block0/sqrt_end_time" not in model.state()
    assert model.arrays()["block0/sqrt_end_time"] == before


@pytest.mark.parametrize("solver", [AdaptiveSolver("dopri5", 1e-6, 1e-6), FixedSolver("euler", 5)])
def test_the_adjoint_counts_its_calls(solver: Any) -> None:  # noqa: ANN401
    """Backward counts arrive through the ledger; the backward solve starts with the first step of
    the forward one, so it needs no heuristic.
    """
    calls: list[float] = []

    def field(inputs: Inputs, s: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        jax.debug.callback(lambda s: calls.append(float(s)), s)
        assert inputs.T is not None
        return jnp.tanh(3 * inputs.T * z), z.sum(axis=1)[None] * inputs.T

    def loss(T: jax.Array, ledger: jax.Array) -> tuple[jax.Array, Tree]:
        start = jnp.ones((2, 2)), jnp.zeros((1, 2))
        z, q, stats = solve_block(
            How(get_engine("native"), solver, "adjoint"),
            InitialValue(rates_of(field), start, Inputs(T=T), Inputs()),
            FirstSteps(ledger=ledger[0]),
        )
        return jnp.sum(z) + jnp.sum(q), stats

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (_, ledger), stats = gradient(jnp.asarray(0.7), new_ledger(1))
    jax.effects_barrier()  # type: ignore[no-untyped-call]
    backward, failure = (int(entry) for entry in ledger[0, :2])
    assert 0 < ledger[0, 2] <= 1
    assert len(calls) == int(stats.evaluations) + backward
    assert failure == 0
    if isinstance(solver, FixedSolver):
        assert backward == solver.steps
    else:
        assert backward % 6 == 1
    assert min(calls) == 0
    assert calls[int(stats.evaluations)] == 1, "the backward solve starts at s = 1"


def test_a_failed_backward_solve_is_reported_and_updates_nothing(
    base_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    """The adjoint needs more steps than the solve itself; cut in between."""
    small = replace(base_trial.model, hidden=(7,), blocks=1)
    solver = AdaptiveSolver("bosh3", rtol=1e-5, atol=1e-5)
    trial = replace(base_trial, model=small, solver=solver)
    batch, control = make_inputs(trial, DIM)
    model = open_model(trial, DIM)
    before = {k: 3 * v for k, v in model.arrays().items()}  # in an easy flow they need as many
    model.load_arrays(before)
    nfe = model.train_step(batch, control).fetch().nfe
    steps = nfe.accepted[0] + nfe.rejected[0]
    assert nfe.backward[0] > 1 + 3 * steps, "the case no longer separates the two solves"
    model.load_arrays(before)
    few = replace(control, solver=replace(solver, max_steps=steps))
    state = model.state()
    report = model.train_step(batch, few).fetch()
    assert report.failure == "max_steps"
    after = {**model.arrays(), **model.state()}
    for name, value in {**before, **state}.items():
        np.testing.assert_array_equal(after[name], value)
