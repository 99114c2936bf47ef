"""The production engine against torchdiffeq: step for step, evaluation for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from harness_torch import torchdiffeq_engine
from harness_torch.control import BoundField, Field, Inputs, Rates
from harness_torch.dynamics import Augmented
from harness_torch.solve import solve
from torch import Tensor
from torchdiffeq import odeint

from harness.solvers import TABLEAUX
from harness.stages import Block
from harness.streams import Stream
from harness.trial import AdaptiveSolver, FixedSolver, ModelSpec, SolverSpec

DIM = 3
Problem = tuple[Field, Inputs, Tensor, Tensor]


def _leaves(u: Tensor, q: Tensor) -> Sequence[Tensor]:
    return u, q[0]


class Recorded(Field):
    """A field with the times of its calls."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.times: list[float] = []

    def bind(self, inputs: Inputs) -> BoundField:
        bound = self.field.bind(inputs)

        def field(s: Tensor, u: Tensor) -> Rates:
            self.times.append(float(s))
            return bound(s, u)

        return field


@pytest.fixture
def problem(
    block_arrays: Callable[[ModelSpec, int], dict[str, Tensor]],
    first_block: Callable[[ModelSpec, int], Block],
) -> Problem:
    """A stiff-ish flow: rejections occur."""
    x = torch.tensor(Stream(3, "x").normal((8, DIM)))
    eps = torch.tensor(Stream(3, "eps").normal((8, DIM)))
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    model = ModelSpec("concatsquash", (16, 16), "tanh")
    arrays = block_arrays(model, DIM)
    inputs = Inputs(arrays, 9 * one, eps, zero, one)
    field = Augmented(model, first_block(model, DIM), "hutchinson")
    return field, inputs, x, torch.zeros(1, 8, dtype=torch.float64)


@pytest.mark.parametrize("name", ["dopri5", "bosh3"])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
@pytest.mark.parametrize("first", ["heuristic", "whole"])
def test_adaptive_steps_are_torchdiffeqs_own(
    name: str, tolerance: float, first: str, problem: Problem
) -> None:
    """The method of that name in torchdiffeq, tuple state, default norm and its own first step."""
    field, inputs, x, q = problem
    ours, theirs = Recorded(field), Recorded(field)
    solver: Any = AdaptiveSolver(name, rtol=tolerance, atol=tolerance, first_step=first)  # type: ignore[arg-type]
    end = solve(ours, inputs, x, q, solver, _leaves)
    options: dict[str, Any] = {"step_t": torch.tensor([0.0, 1.0]).double()}
    if first == "whole":
        options["first_step"] = 1.0
    us, qs = odeint(
        lambda t, state: theirs(inputs, t, state[0]),
        (x, q),
        torch.tensor([0.0, 1.0]).double(),
        rtol=tolerance,
        atol=tolerance,
        method=name,
        options=options,
    )
    if first == "whole" and tolerance == 1e-6:
        assert end.rejected > 0
    assert end.evaluations == len(ours.times) == len(theirs.times)
    assert ours.times == pytest.approx(theirs.times, rel=1e-9, abs=1e-15)
    torch.testing.assert_close(end.u, us[-1], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(end.q, qs[-1], rtol=1e-11, atol=1e-11)


def test_fixed_steps_are_torchdiffeqs_own(problem: Problem) -> None:
    field, inputs, x, q = problem
    ours, theirs = Recorded(field), Recorded(field)
    end = solve(ours, inputs, x, q, FixedSolver("rk4_38", 5), _leaves)
    us, qs = odeint(
        lambda t, state: theirs(inputs, t, state[0]),
        (x, q),
        torch.tensor([0.0, 1.0]).double(),
        method="rk4",
        options={"step_size": 0.2},
    )
    assert ours.times == pytest.approx(theirs.times, rel=1e-12)
    torch.testing.assert_close(end.u, us[-1], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(end.q, qs[-1], rtol=1e-13, atol=1e-13)


def _spec(name: str, norm: str = "mixed") -> SolverSpec:
    if TABLEAUX[name].error is None:
        return FixedSolver(name, 4)
    return AdaptiveSolver(name, rtol=1e-4, atol=1e-4, norm=norm)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", ["mixed", "rms_all"])
@pytest.mark.parametrize("name", TABLEAUX)
def test_engines_agree_on_every_tableau(name: str, norm: str, problem: Problem) -> None:
    field, inputs, x, q = problem
    ours = solve(field, inputs, x, q, _spec(name, norm), _leaves)
    theirs = torchdiffeq_engine.solve(field, inputs, x, q, _spec(name, norm), _leaves)
    for quantity in ("evaluations", "accepted", "rejected", "failure"):
        assert getattr(ours, quantity) == getattr(theirs, quantity), quantity
    assert ours.first_step == pytest.approx(theirs.first_step, rel=1e-14)
    torch.testing.assert_close(ours.u, theirs.u, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(ours.q, theirs.q, rtol=1e-11, atol=1e-11)


def test_engines_agree_on_the_gradient(problem: Problem) -> None:
    field, inputs, x, q = problem
    gradients = []
    for engine in (solve, torchdiffeq_engine.solve):
        x.requires_grad_()
        end = engine(field, inputs, x, q, _spec("dopri5"), _leaves)
        gradients.append(torch.autograd.grad(end.q.sum() + end.u.square().sum(), x)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("engine", [solve, torchdiffeq_engine.solve])
def test_engines_report_failures_alike(engine: Any, problem: Problem) -> None:  # noqa: ANN401
    field, inputs, x, q = problem
    few = AdaptiveSolver("dopri5", rtol=1e-6, atol=1e-6, max_steps=2)
    assert engine(field, inputs, x, q, few, _leaves).failure == "max_steps"
    whole = AdaptiveSolver("dopri5", first_step="whole")
    assert engine(field, inputs, x * torch.nan, q, whole, _leaves).failure == "non-finite"
