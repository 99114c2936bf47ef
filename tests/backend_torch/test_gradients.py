"""Gradients: against differences, across modes, and the adjoint against torchdiffeq's."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from harness_torch.field import Augmented
from harness_torch.model import TorchModel
from harness_torch.solve.counts import Counts
from harness_torch.solve.engines import FirstSteps, How
from harness_torch.solve.gradients import solve_block
from harness_torch.solve.native_engine import Native, integrate
from harness_torch.solve.problem import InitialValue, Inputs, Rates
from harness_torch.solve.tape import Eager, Tape, Wanted
from torch import Tensor, nn
from torchdiffeq import odeint_adjoint

from harness.architecture.transforms import Block
from harness.interface import Array, Batch, Control
from harness.streams.stream import Stream
from harness.trial import AdaptiveSolver, EndTime, FixedSolver, ModelSpec, Trial

DIM = 3
OpenModel = Callable[[Trial, int], TorchModel]
MakeInputs = Callable[..., tuple[Batch, Control]]
REGULARIZERS: tuple[Mapping[Any, float], ...] = ({}, {"rnode.jacobian": 0.3, "rnode.kinetic": 0.2})


def _gradient(model: TorchModel, batch: Batch, control: Control) -> dict[str, Array]:
    """The gradient, from the first moment of the first step of Adam; the arrays stay."""
    before = model.arrays()
    assert model.train_step(batch, control).fetch().failure is None
    model.load_arrays(before)
    moments = model.state().items()
    return {k.removeprefix("adam/m/"): 10 * v for k, v in moments if k.startswith("adam/m/")}


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
@pytest.mark.parametrize("layer", ["concat", "concatsquash"])
def test_direct_gradient_is_that_of_the_discrete_solution(
    layer: Any,  # noqa: ANN401
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
    gradient = _gradient(open_model(trial, DIM), batch, control)
    start = open_model(trial, DIM).arrays()
    direction = {k: Stream(5, k).normal(v.shape) for k, v in gradient.items()}
    assert "block1/sqrt_end_time" in direction
    h, losses = 1e-5, []
    for sign in (1, -1):
        model = open_model(trial, DIM)
        model.load_arrays(start | {k: start[k] + sign * h * v for k, v in direction.items()})
        losses.append(model.train_step(batch, control).fetch().loss)
    along = sum(float(np.sum(gradient[k] * v)) for k, v in direction.items())
    assert along == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-7)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
@pytest.mark.parametrize("norm", ["mixed", "rms_all"])
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
        solver=AdaptiveSolver("dopri5", rtol=1e-10, atol=1e-10, norm=norm),
        training=replace(base_trial.training, trace=trace),
        regularizer=regularizer,
    )
    found = {}
    for mode in ("direct", "checkpoint", "adjoint"):
        of_mode = replace(trial, gradient=mode)
        found[mode] = _gradient(open_model(of_mode, DIM), *make_inputs(of_mode, DIM))
    assert found["direct"].keys() == found["adjoint"].keys() == found["checkpoint"].keys()
    scale = max(float(np.max(np.abs(v))) for v in found["direct"].values())
    for name, value in found["direct"].items():
        np.testing.assert_allclose(found["adjoint"][name], value, atol=1e-8 * scale, rtol=0)
        np.testing.assert_allclose(found["checkpoint"][name], value, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("solver", [FixedSolver("rk4_38", 3), FixedSolver("midpoint", 4), None])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_checkpoint_is_direct_with_the_evaluations_done_again(
    regularizer: Mapping[Any, float],
    solver: FixedSolver | None,
    base_trial: Trial,
    open_model: OpenModel,
    make_inputs: MakeInputs,
) -> None:
    trial = replace(base_trial, regularizer=regularizer, solver=solver or base_trial.solver)
    found, nfes = {}, {}
    for mode in ("direct", "checkpoint"):
        of_mode = replace(trial, gradient=mode)
        model = open_model(of_mode, DIM)
        batch, control = make_inputs(of_mode, DIM)
        nfes[mode] = model.train_step(batch, control).fetch().nfe
        found[mode] = {k: v for k, v in model.state().items() if k.startswith("adam/m/")}
    for name, value in found["direct"].items():
        np.testing.assert_allclose(found["checkpoint"][name], value, rtol=1e-13, atol=1e-16)
    stages = {"rk4_38": 4, "midpoint": 2, "dopri5": 6}[trial.solver.name]
    expected = tuple(stages * accepted for accepted in nfes["direct"].accepted)
    assert nfes["direct"].vjp == nfes["checkpoint"].vjp == expected
    assert nfes["checkpoint"].recompute == expected
    assert nfes["direct"].recompute == (0, 0)


class _Kept:
    """What one evaluation keeps."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape


class _Watching(Eager):
    """Watches what evaluations keep."""

    alive: weakref.WeakSet[_Kept]

    def taped(self, s: float, u: Tensor) -> tuple[Rates, Tape]:
        rates, tape = super().taped(s, u)
        kept = _Kept(tape)
        self.alive.add(kept)
        return rates, kept


def test_direct_keeps_what_accepted_steps_need_and_nothing_else(
    block_arrays: Callable[[ModelSpec, int], dict[str, Tensor]],
    first_block: Callable[[ModelSpec, int], Block],
) -> None:
    model = ModelSpec("concatsquash", (8, 8), "tanh")
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    inputs = Inputs(block_arrays(model, DIM), 9 * one, None, zero, one)
    field = Augmented(model, first_block(model, DIM), "exact")
    taped = _Watching(field, inputs, Wanted())
    taped.alive = weakref.WeakSet()
    x, q = torch.tensor(Stream(3, "x").normal((6, DIM))), torch.zeros(1, 6).double()
    start = InitialValue(field, inputs, x, q)
    solver = AdaptiveSolver("dopri5", rtol=1e-6, atol=1e-6, first_step="whole")
    end = integrate(taped, start, solver, record=True, tape=True)
    assert end.rejected > 0
    gc.collect()
    assert len(taped.alive) == 6 * end.accepted


@pytest.mark.parametrize("mode", ["direct", "adjoint"])
def test_an_inert_end_time_gets_no_gradient(
    mode: Any,  # noqa: ANN401
    base_trial: Trial,
    open_model: OpenModel,
    make_inputs: MakeInputs,
) -> None:
    trial = replace(
        base_trial,
        model=replace(base_trial.model, end_time=EndTime(0.7, "inert")),
        gradient=mode,
    )
    assert "block0/sqrt_end_time" not in _gradient(
        open_model(trial, DIM), *make_inputs(trial, DIM)
    )


class _Reference(nn.Module):
    """The same right-hand side as torchdiffeq's adjoint wants it, with its calls counted."""

    def __init__(self, field: Augmented, inputs: Inputs) -> None:
        super().__init__()
        self.names = list(inputs.arrays)
        self.values = nn.ParameterList(inputs.arrays.values())
        self.field, self.inputs = field, inputs
        self.calls = 0

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        self.calls += 1
        arrays = dict(zip(self.names, self.values, strict=True))
        dz, dq = self.field(self.inputs._replace(arrays=arrays), t, state[0])
        return dz, dq[0]


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_the_adjoint_is_torchdiffeqs(
    tolerance: float,
    block_arrays: Callable[[ModelSpec, int], dict[str, Tensor]],
    first_block: Callable[[ModelSpec, int], Block],
) -> None:
    """Equal evaluations, backward too, and equal gradients, driven as docs/numerics.md says: one
    first step for both directions, and a norm without the adjoint of time.
    """
    model = ModelSpec("concatsquash", (8, 8), "softplus")
    x = torch.tensor(Stream(3, "x").normal((6, DIM)))
    eps = torch.tensor(Stream(3, "eps").normal((6, DIM)))
    arrays = {k: v.requires_grad_() for k, v in block_arrays(model, DIM).items()}
    solver = AdaptiveSolver("dopri5", rtol=tolerance, atol=tolerance, first_step=0.1)
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    inputs = Inputs(arrays, 2 * one, eps, zero, one)
    counts, field = Counts(), Augmented(model, first_block(model, DIM), "hutchinson")
    start = InitialValue(field, inputs, x, torch.zeros(1, 6).double())
    z, q = solve_block(How(Native(), solver, "adjoint"), start, FirstSteps(), counts)
    ours = torch.autograd.grad(z.square().sum() + q.sum(), list(arrays.values()))

    reference = _Reference(field, inputs)
    steps = {"first_step": 0.1, "step_t": torch.tensor([0.0, 1.0]).double()}

    def norm(leaves: tuple[Tensor, ...]) -> Tensor:
        return torch.stack([leaf.square().mean().sqrt() for leaf in leaves[1:]]).max()

    zs, aa = odeint_adjoint(
        reference,
        (x, torch.zeros(6).double()),
        torch.tensor([0.0, 1.0]).double(),
        rtol=tolerance,
        atol=tolerance,
        method="dopri5",
        options=steps,
        adjoint_options={**steps, "norm": norm},
    )
    assert counts.forward == reference.calls
    theirs = torch.autograd.grad(zs[-1].square().sum() + aa[-1].sum(), list(reference.values))
    assert counts.backward == reference.calls - counts.forward
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


def test_a_failed_backward_solve_is_reported_and_updates_nothing(
    base_trial: Trial, open_model: OpenModel, make_inputs: MakeInputs
) -> None:
    """The adjoint needs more steps than the solve itself; cut in between."""
    trial = replace(base_trial, model=replace(base_trial.model, blocks=1))
    batch, control = make_inputs(trial, DIM)
    model = open_model(trial, DIM)
    before = {k: 3 * v for k, v in model.arrays().items()}  # in an easy flow they need as many
    model.load_arrays(before)
    nfe = model.train_step(batch, control).fetch().nfe
    steps = nfe.accepted[0] + nfe.rejected[0]
    assert nfe.backward[0] > 1 + 6 * steps, "the case no longer separates the two solves"
    model.load_arrays(before)
    assert isinstance(trial.solver, AdaptiveSolver)
    few = replace(control, solver=replace(trial.solver, max_steps=steps))
    state = model.state()
    report = model.train_step(batch, few).fetch()
    assert report.failure == "max_steps"
    assert np.isnan(report.loss)
    after = {**model.arrays(), **model.state()}
    for name, value in {**before, **state}.items():
        np.testing.assert_array_equal(after[name], value)
