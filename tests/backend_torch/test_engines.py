"""The production engine against torchdiffeq: step for step, evaluation for evaluation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness_torch.field import Augmented
from harness_torch.solve import library_engine
from harness_torch.solve.counts import Counts
from harness_torch.solve.engines import FirstSteps, How
from harness_torch.solve.gradients import solve_block
from harness_torch.solve.native_engine import Native
from harness_torch.solve.problem import BoundField, Field, InitialValue, Inputs, Rates
from torch import Tensor
from torchdiffeq import odeint
from torchdiffeq._impl.odeint import SOLVERS

from harness.architecture.transforms import Block
from harness.solvers import TABLEAUX
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    FixedSolver,
    GradientName,
    LibrarySolver,
    ModelSpec,
    SolverSpec,
)

DIM = 3
Problem = tuple[Field, Inputs, Tensor, Tensor]


NATIVE, LIBRARY = Native(), library_engine.Library()


class Recorded(Field):
    """A field with the times of its calls."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.times: list[float] = []

    def bind(self, inputs: Inputs) -> BoundField:
        bound = self.field.bind(inputs)

        def field(s: Tensor, u: Tensor) -> Rates:
            self.times.append(float(s.detach()))
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


@pytest.mark.parametrize("name", ["dopri5", "bosh3", "dopri8"])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
@pytest.mark.parametrize("first", ["heuristic", "whole"])
def test_adaptive_steps_are_torchdiffeqs_own(
    name: str, tolerance: float, first: str, problem: Problem
) -> None:
    """The method of that name in torchdiffeq, tuple state, default norm and its own first step."""
    field, inputs, x, q = problem
    ours, theirs = Recorded(field), Recorded(field)
    solver: Any = AdaptiveSolver(name, rtol=tolerance, atol=tolerance, first_step=first)  # type: ignore[arg-type]
    end = NATIVE.solve(InitialValue(ours, inputs, x, q), solver)
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
    end = NATIVE.solve(InitialValue(ours, inputs, x, q), FixedSolver("rk4_38", 5))
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
    start = InitialValue(field, inputs, x, q)
    ours = NATIVE.solve(start, _spec(name, norm))
    theirs = LIBRARY.solve(start, _spec(name, norm))
    for quantity in ("evaluations", "accepted", "rejected", "failure"):
        assert getattr(ours, quantity) == getattr(theirs, quantity), quantity
    assert ours.first_step == pytest.approx(theirs.first_step, rel=1e-14)
    torch.testing.assert_close(ours.u, theirs.u, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(ours.q, theirs.q, rtol=1e-11, atol=1e-11)


def test_engines_agree_on_the_gradient(problem: Problem) -> None:
    """Our own way back through the steps equals backpropagation through torchdiffeq's, which
    differentiates the last stage too: its interpolant reads it, with weight 0 at the end.
    """
    field, inputs, x, q = problem
    arrays = {k: v.requires_grad_() for k, v in inputs.arrays.items()}
    leaves = [x.requires_grad_(), inputs.T.requires_grad_(), *arrays.values()]
    solver = AdaptiveSolver("dopri5", rtol=1e-6, atol=1e-6, first_step="whole")
    gradients, vjps = [], []
    for engine in (NATIVE, LIBRARY):
        counts = Counts()
        start = InitialValue(field, inputs._replace(arrays=arrays), x, q)
        end = solve_block(How(engine, solver, "direct"), start, FirstSteps(), counts)
        assert counts.rejected > 0
        gradients.append(torch.autograd.grad(end[1].sum() + end[0].square().sum(), leaves))
        vjps.append(counts.vjp)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert vjps == [6 * counts.accepted, 6 * counts.accepted + 1]


@pytest.mark.parametrize("name", ["dopri5", "bosh3", "dopri8"])
def test_the_state_halfway_is_torchdiffeqs_own(name: str) -> None:
    middle = TABLEAUX[name].middle
    assert middle is not None
    assert list(middle) == SOLVERS[name].mid.tolist()


@pytest.mark.parametrize("mode", ["direct", "checkpoint"])
@pytest.mark.parametrize("name", ["dopri5", "bosh3", "dopri8"])
def test_the_interpolated_end_is_torchdiffeqs_own(
    name: str, mode: GradientName, problem: Problem
) -> None:
    """Evaluations, values and counts of its default: past the end, then back. Its gradient goes
    through the step sizes too, so ours is compared with that of its steps at fixed sizes.
    """
    field, inputs, x, q = problem
    # A power of two, so that scaling the time by it rounds nothing.
    inputs = inputs._replace(T=torch.full_like(inputs.T, 8.0))
    x.requires_grad_()
    ours, theirs = Recorded(field), Recorded(field)
    solver = AdaptiveSolver(name, rtol=1e-4, atol=1e-4, end="interpolate")
    counts = Counts()
    start = InitialValue(ours, inputs, x, q)
    end = solve_block(How(NATIVE, solver, mode), start, FirstSteps(), counts)
    # In t, as the released code solves it: the rule for the first step is applied there.
    T = inputs.T
    us, qs = odeint(
        lambda t, state: tuple(rate / T for rate in theirs(inputs, t / T, state[0])),
        (x, q),
        torch.stack([torch.zeros_like(T), T]),
        rtol=1e-4,
        atol=1e-4,
        method=name,
    )
    assert counts.forward == len(theirs.times)
    # The error of dopri8 is a small difference of large terms: where the first step differs in its
    # last digit, the next ones differ by rounding over error.
    times, ends = (1e-6, 1e-8) if name == "dopri8" else (1e-9, 1e-11)
    assert ours.times == pytest.approx(theirs.times, rel=times, abs=1e-15)
    assert max(ours.times) > 1
    torch.testing.assert_close(end[0], us[-1], rtol=ends, atol=ends)
    torch.testing.assert_close(end[1], qs[-1], rtol=ends, atol=ends)
    (mine,) = torch.autograd.grad(end[1].sum() + end[0].square().sum(), x)
    whole = InitialValue(field, inputs, x, q, length=inputs.length)
    steps = LIBRARY.solve(whole, solver)
    (other,) = torch.autograd.grad(steps.q.sum() + steps.u.square().sum(), x)
    torch.testing.assert_close(steps.u, us[-1], rtol=ends, atol=ends)
    torch.testing.assert_close(mine, other, rtol=100 * ends, atol=100 * ends)
    assert counts.vjp == (TABLEAUX[name].stages - 1) * counts.accepted + 1
    assert counts.recompute == (counts.vjp if mode == "checkpoint" else 0)


@pytest.mark.parametrize("engine", [NATIVE, LIBRARY])
def test_engines_report_failures_alike(engine: Any, problem: Problem) -> None:  # noqa: ANN401
    field, inputs, x, q = problem
    few = AdaptiveSolver("dopri5", rtol=1e-6, atol=1e-6, max_steps=2)
    assert engine.solve(InitialValue(field, inputs, x, q), few).failure == "max_steps"
    whole = AdaptiveSolver("dopri5", first_step="whole")
    assert (
        engine.solve(InitialValue(field, inputs, x * torch.nan, q), whole).failure == "non-finite"
    )


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ("Functional iteration did not converge. Solution may be incorrect.", "not converged"),
        ("something else", None),
    ],
)
def test_a_solution_that_the_library_doubts_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, problem: Problem, said: str, failure: str | None
) -> None:
    """Its implicit iterations warn where a step is too long for them, and go on."""

    def warning(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        warnings.warn(said, stacklevel=2)
        return odeint(*arguments, **options)

    monkeypatch.setattr(library_engine, "odeint", warning)
    field, inputs, x, q = problem
    solver = LibrarySolver("torchdiffeq:implicit_adams", rtol=1e-6, atol=1e-6, steps=8)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = LIBRARY.solve(InitialValue(field, inputs, x, q), solver)
    assert found.failure == failure
    assert [str(one.message) for one in heard] == [said]


@pytest.mark.parametrize(
    ("name", "steps"),
    [("adaptive_heun", None), ("fehlberg2", None), ("scipy_solver", None)]
    + [(name, 40) for name in ("heun3", "explicit_adams", "implicit_adams", "fixed_adams")],
)
@pytest.mark.parametrize("mode", ["direct", "adjoint"])
def test_other_solvers_of_the_library(
    name: str, steps: int | None, mode: GradientName, problem: Problem
) -> None:
    """Their ends and gradients are those of the reference, their evaluations what they called."""
    if name == "scipy_solver" and mode == "direct":
        pytest.skip("scipy is not differentiable")
    field, inputs, x, q = problem
    inputs = inputs._replace(T=inputs.T / 9)
    x.requires_grad_()
    tight = AdaptiveSolver("dopri5", rtol=1e-9, atol=1e-9)
    start = InitialValue(field, inputs, x, q)
    expected = solve_block(How(NATIVE, tight, "direct"), start, FirstSteps(), Counts())
    (slope,) = torch.autograd.grad(expected[1].sum() + expected[0].square().sum(), x)
    recorded, counts = Recorded(field), Counts()
    solver = LibrarySolver(f"torchdiffeq:{name}", rtol=1e-6, atol=1e-6, steps=steps)
    start = start._replace(field=recorded)
    end = solve_block(How(NATIVE, solver, mode), start, FirstSteps(), counts)
    assert counts.forward == len(recorded.times) > 0
    assert counts.failure is None
    (found,) = torch.autograd.grad(end[1].sum() + end[0].square().sum(), x)
    torch.testing.assert_close(end, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, slope, rtol=2e-3, atol=2e-3)
    if mode == "adjoint":
        assert counts.backward == len(recorded.times) - counts.forward > 0
    else:
        assert counts.vjp > 0
