"""Training: gradient modes, optimisers, warm first steps, resume, what an evaluation leaves alone,
and solves that fail.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.conformance.cases import Case, data_of, make_trial
from harness.conformance.inputs import (
    agree,
    check_gradient,
    evaluate,
    gradient_of,
    inputs,
    take_step,
)
from harness.conformance.oracle.field import Float
from harness.conformance.oracle.flow import Oracle
from harness.conformance.plugin import OpenModel
from harness.interface import Backend, Control
from harness.solvers import TABLEAUX
from harness.trial import (
    AdaptiveSolver,
    BatchNorm,
    FixedSolver,
    GradientName,
    Optimizer,
    SolverSpec,
    Trial,
)

EULER = Case("concatsquash", "tanh", "hutchinson", "euler", "direct", "linear")
SMOOTH = Case("concatsquash", "tanh", "hutchinson", "dopri5", "direct", "linear")


def _trial(backend: Backend, mode: GradientName, **solver: Any) -> Trial:  # noqa: ANN401
    settings = {"name": "dopri5", "rtol": 1e-3, "atol": 1e-3, **solver}
    trial = make_trial(replace(SMOOTH, gradient=mode), backend.name, blocks=2)
    return replace(trial, solver=AdaptiveSolver(**settings))


def test_gradient_modes_agree(backend: Backend, open_model: OpenModel) -> None:
    """Checkpoint and symplectic are direct to rounding, the adjoint to the tolerance; under the
    seminorm it takes no more evaluations.
    """
    modes: dict[str, tuple[GradientName, dict[str, Any]]] = {
        mode: (mode, {}) for mode in ("direct", "checkpoint", "symplectic", "adjoint")
    }
    modes["seminorm"] = ("adjoint", {"adjoint_norm": "seminorm"})
    gradients, backward = {}, {}
    for name, (mode, solver) in modes.items():
        trial = _trial(backend, mode, rtol=1e-8, atol=1e-8, **solver)
        model = open_model(trial)
        backward[name] = sum(take_step(model, *inputs(trial)).nfe.backward)
        gradients[name] = gradient_of(model.state())
    for array, value in gradients["direct"].items():
        agree(gradients["checkpoint"][array], value, 1e-12, array)
        agree(gradients["symplectic"][array], value, 1e-12, array)
        agree(gradients["adjoint"][array], value, 1e-6, array)
        agree(gradients["seminorm"][array], value, 1e-6, array)
    assert 0 < backward["seminorm"] <= backward["adjoint"]


def test_pairs_of_states_are_followed_back(backend: Backend, open_model: OpenModel) -> None:
    """The gradient of 100 steps by 100 steps back, against that of the oracle, and its counts."""
    case = replace(EULER, gradient="reversible", solver="rk4_38")
    trial = replace(make_trial(case, backend.name, blocks=2), solver=FixedSolver("rk4_38", 100))
    model = open_model(trial)
    batch, control = inputs(trial)
    arrays, oracle = model.arrays(), Oracle(trial, data_of(trial))
    report = take_step(model, batch, control)
    run = oracle.run(arrays, batch, control, train=True)
    agree(report.loss, run.loss, 1e-12, "loss")
    check_gradient(gradient_of(model.state()), oracle, arrays, (batch, control), run, 1e-7)
    assert report.nfe.forward == report.nfe.vjp == (800, 800)
    assert report.nfe.accepted == (100, 100)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("bosh3", "direct"),
        ("dopri5", "adjoint"),
        ("dopri5", "checkpoint"),
        ("dopri5", "direct"),
        ("dopri5", "symplectic"),
        ("dopri8", "checkpoint"),
    ],
)
def test_interpolated_ends(
    name: str, mode: GradientName, backend: Backend, open_model: OpenModel
) -> None:
    """Loss, gradient and counts of solves that step past their end."""
    trial = _trial(backend, mode, name=name, end="interpolate", rtol=1e-6, atol=1e-6)
    model, oracle = open_model(trial), Oracle(trial, data_of(trial))
    arrays, batch_and_control = model.arrays(), inputs(trial)
    report = take_step(model, *batch_and_control)
    run = oracle.run(arrays, *batch_and_control, train=True)
    assert all(sum(solve.steps[-1]) > 1 for solve in run.solves)
    agree(report.loss, run.loss, 1e-9, "loss")
    gradient = gradient_of(model.state())
    # The adjoint solve is not the derivative of the discrete solution.
    tolerance = 1e-4 if mode == "adjoint" else 1e-7
    check_gradient(gradient, oracle, arrays, batch_and_control, run, tolerance)
    tableau = TABLEAUX[name]
    attempts = [len(solve.steps) + solve.rejected for solve in run.solves]
    assert report.nfe.forward == tuple(tableau.evaluations(n, heuristic=True) for n in attempts)
    # The last stage has a weight in the last step alone.
    needed = tuple(tableau.evaluations_per_step * len(solve.steps) + 1 for solve in run.solves)
    assert report.nfe.vjp == (() if mode == "adjoint" else needed)
    if mode == "symplectic":
        assert sum(report.nfe.recompute) > sum(needed)
    else:
        assert sum(report.nfe.recompute) == (sum(needed) if mode == "checkpoint" else 0)


def test_log_volume_in_the_state(backend: Backend, open_model: OpenModel) -> None:
    """The norm sees it, so steps and log p are others; the oracle's all the same."""
    trial = _trial(backend, "checkpoint", log_volume_in_state=True)
    oracle = Oracle(trial, data_of(trial))
    plain, control = inputs(trial)
    carrying = replace(plain, log_volume=np.array([400.0, -700.0, 500.0]))
    losses = set()
    for batch in (plain, carrying):
        model = open_model(trial)
        arrays = model.arrays()
        report = take_step(model, batch, control)
        run = oracle.run(arrays, batch, control, train=True)
        agree(report.loss, run.loss, 1e-9, "loss")
        check_gradient(gradient_of(model.state()), oracle, arrays, (batch, control), run, 1e-7)
        assert report.nfe.accepted == tuple(len(solve.steps) for solve in run.solves)
        model.load_arrays(arrays)
        values = evaluate(model, batch, control, "log_prob").values
        agree(values["log_prob"], run.log_prob, 1e-9, "log_prob")
        losses.add(report.loss)
    assert len(losses) == 2


def _expected_step(
    optimizer: Optimizer, count: int, lr: float, array: Float, m: Float, v: Float
) -> Float:
    """The array after a step, from the moments after it (docs/numerics.md, section 7)."""
    bias1, bias2 = 1 - 0.9**count, 1 - 0.999**count
    if optimizer.name == "adamax":
        return np.asarray(array - lr / bias1 * m / v)
    if optimizer.name == "adam_eps_hat":
        return np.asarray(array - lr * np.sqrt(bias2) / bias1 * m / (np.sqrt(v) + optimizer.eps))
    if optimizer.name == "adamw":
        array = array * (1 - lr * optimizer.weight_decay)
    return np.asarray(array - lr * (m / bias1) / (np.sqrt(v / bias2) + optimizer.eps))


OPTIMIZERS = (
    Optimizer("adam", eps=1e-3, weight_decay=0.3),
    Optimizer("adam_eps_hat", eps=1e-3, weight_decay=0.3, clip_norm=0.05),
    Optimizer("adamax", eps=1e-3, weight_decay=0.3, clip_norm=0.05),
    Optimizer("adamw", eps=1e-3, weight_decay=0.3, clip_norm=1e6),
)


def test_optimizers(backend: Backend, open_model: OpenModel) -> None:
    """Three steps of each from the plain gradients, which one model at the same arrays gives."""
    trial = make_trial(EULER, backend.name)
    plain = open_model(trial)
    start = plain.state()
    for optimizer in OPTIMIZERS:
        own = replace(trial, training=replace(trial.training, optimizer=optimizer))
        model = open_model(own)
        decays = optimizer.weight_decay if optimizer.name in ("adam", "adamax") else 0.0
        m: dict[str, Any] = {}
        v: dict[str, Any] = {}
        for step, lr in enumerate((1e-2, 3e-2, 0.0)):
            arrays = model.arrays()
            plain.load_arrays(arrays)
            plain.load_state(start)
            batch, control = inputs(trial, step=step)
            take_step(plain, batch, control)
            gradient = gradient_of(plain.state())
            norm = np.sqrt(sum(np.sum(g**2) for g in gradient.values()))
            clip = min(1.0, optimizer.clip_norm / norm) if optimizer.clip_norm else 1.0
            take_step(model, batch, replace(control, lr=lr))
            state, after = model.state(), model.arrays()
            assert state["adam/count"] == step + 1
            for name, g in gradient.items():
                what = f"{name} under {optimizer.name}"
                g = g * clip + decays * arrays[name]
                m[name] = 0.9 * m.get(name, 0.0) + 0.1 * g
                if optimizer.name == "adamax":
                    v[name] = np.maximum(0.999 * v.get(name, 0.0), np.abs(g) + optimizer.eps)
                else:
                    v[name] = 0.999 * v.get(name, 0.0) + 0.001 * g * g
                agree(state[f"adam/m/{name}"], m[name], 1e-12, f"m of {what}")
                agree(state[f"adam/v/{name}"], v[name], 1e-12, f"v of {what}")
                moved = _expected_step(optimizer, step + 1, lr, arrays[name], m[name], v[name])
                agree(after[name], moved, 1e-12, what)


@pytest.mark.parametrize("mode", ["adjoint", "checkpoint", "direct"])
def test_warm_first_steps(mode: GradientName, backend: Backend, open_model: OpenModel) -> None:
    """A step starts with the largest that the step before accepted, down to a power of two."""
    trial = _trial(backend, mode, first_step="warm", rtol=1e-5, atol=1e-5)
    oracle = Oracle(trial, data_of(trial))
    model = open_model(trial)
    warm: Any = model.state()["warm/forward"]
    np.testing.assert_array_equal(warm, np.zeros(2))
    assert ("warm/backward" in model.state()) == (mode == "adjoint")
    for step in range(3):
        batch, control = inputs(trial, step=step)
        arrays = model.arrays()
        report = take_step(model, batch, control)
        run = oracle.run(arrays, batch, control, train=True, warm=list(warm))
        attempts = [len(solve.steps) + solve.rejected for solve in run.solves]
        first = 2 if step == 0 else 1  # the heuristic costs one evaluation
        assert report.nfe.forward == tuple(6 * n + first for n in attempts)
        agree(report.loss, run.loss, 1e-9, "loss")
        warm = model.state()["warm/forward"]
        largest = [solve.largest for solve in run.solves]
        np.testing.assert_array_equal(warm, 2.0 ** np.floor(np.log2(largest)))
    if mode == "adjoint":
        assert np.all(model.state()["warm/backward"] > 0)
    batch, control = inputs(trial, "evaluate")
    nfe = evaluate(model, batch, control, "log_prob").nfe
    attempts = np.array(nfe.accepted) + np.array(nfe.rejected)
    np.testing.assert_array_equal(nfe.forward, 6 * attempts + 2)  # evaluations never start warm


RESUMED: list[tuple[GradientName, SolverSpec]] = [
    ("adjoint", AdaptiveSolver("dopri5", rtol=1e-3, first_step="warm")),
    ("checkpoint", AdaptiveSolver("dopri5", rtol=1e-3)),
    ("direct", AdaptiveSolver("bosh3", rtol=1e-3, first_step="warm")),
    ("reversible", FixedSolver("midpoint", 4)),
    ("symplectic", AdaptiveSolver("dopri5", rtol=1e-3, first_step="warm")),
]


@pytest.mark.parametrize(("mode", "solver"), RESUMED, ids=[mode for mode, _ in RESUMED])
def test_resume_is_bitwise(
    mode: GradientName, solver: SolverSpec, backend: Backend, open_model: OpenModel
) -> None:
    """With all that a state can hold: moments, warm steps, statistics, spectral vectors."""
    fields: dict[str, Any] = {"batch_norm": BatchNorm(lag=0.5), "spectral_norm": True}
    trial = make_trial(replace(SMOOTH, gradient=mode), backend.name, blocks=2, **fields)
    # The trace is estimated by probes that change within the solve.
    training = replace(trial.training, trace="hutch++", probes=3, draws=4)
    trial = replace(trial, solver=solver, training=training)
    straight = open_model(trial)
    take_step(straight, *inputs(trial, step=0))
    arrays, state = straight.arrays(), straight.state()
    losses = [take_step(straight, *inputs(trial, step=step)).loss for step in (1, 2)]
    other = open_model(replace(trial, seed=99))
    other.load_arrays(arrays)
    other.load_state(state)
    resumed = [take_step(other, *inputs(trial, step=step)).loss for step in (1, 2)]
    assert resumed == losses
    ends = [{**model.arrays(), **model.state()} for model in (straight, other)]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        assert ends[1][name].tobytes() == value.tobytes(), name


def test_evaluation_changes_no_state(backend: Backend, open_model: OpenModel) -> None:
    fields: dict[str, Any] = {"batch_norm": BatchNorm(), "spectral_norm": True}
    trial = make_trial(SMOOTH, backend.name, **fields)
    trial = replace(trial, solver=AdaptiveSolver("dopri5", 1e-3, 1e-3, first_step="warm"))
    model = open_model(trial)
    take_step(model, *inputs(trial))
    before = {**model.arrays(), **model.state()}
    batch, control = inputs(trial, "evaluate", size=4)
    evaluate(model, batch, control, "log_prob", "encode")
    model.sample(replace(batch, noise={"base": batch.x}), control)
    after = {**model.arrays(), **model.state()}
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value.dtype in (np.float64, np.int64), name
        assert after[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("mode", ["adjoint", "checkpoint", "direct"])
def test_a_solve_that_fails_is_a_report(
    mode: GradientName, backend: Backend, open_model: OpenModel
) -> None:
    trial = _trial(backend, mode, rtol=1e-7, atol=1e-7)
    model = open_model(trial)
    batch, control = inputs(trial)
    assert isinstance(trial.solver, AdaptiveSolver)
    few: Control = replace(control, solver=replace(trial.solver, max_steps=2))
    assert model.train_step(batch, few).fetch().failure == "max_steps"
    if mode == "direct":
        model = open_model(trial)
        assert model.evaluate(batch, few, ("log_prob",)).failure == "max_steps"
        model.load_arrays({k: np.full_like(v, np.nan) for k, v in model.arrays().items()})
        assert model.evaluate(batch, control, ("log_prob",)).failure == "non-finite"
        assert model.train_step(batch, control).fetch().failure == "non-finite"
