"""The production engine: counts, orders, control and failures, on equations known by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
import torch
from harness_torch.solve.control import first_step, next_step
from harness_torch.solve.counts import Solution
from harness_torch.solve.native_engine import Native
from harness_torch.solve.problem import (
    BoundField,
    Field,
    InitialValue,
    Leaves,
    Rates,
    Reversed,
    StateLeaves,
)
from torch import Tensor
from torchdiffeq._impl.misc import _optimal_step_size, _select_initial_step

from harness.solvers import ADAPTIVE_SOLVERS, FIXED_SOLVERS, TABLEAUX
from harness.trial import AdaptiveSolver, FixedSolver

FirstStep = Literal["heuristic", "whole"] | float
FIRST_STEPS: tuple[FirstStep, ...] = ("heuristic", "whole", 0.3)
LOOSE = AdaptiveSolver("dopri5", rtol=1e-3, atol=1e-3)


SOLVE, SEEN = Native().solve, StateLeaves()


@dataclass(frozen=True)
class FieldOf(Field):
    """The field of a function (s, u) -> rates, without inputs."""

    function: BoundField

    def bind(self, inputs: Any) -> BoundField:  # noqa: ANN401
        return self.function


class Counted(Field):
    """du/ds = rate u, dq/ds = sum u, with every call noted."""

    def __init__(self, rate: float = -1.0) -> None:
        self.rate = rate
        self.times: list[float] = []

    def bind(self, inputs: Any) -> BoundField:  # noqa: ANN401
        def field(s: Tensor, u: Tensor) -> Rates:
            self.times.append(float(s))
            return self.rate * u, u.sum(1)[None]

        return field


def run(
    field: Field | BoundField,
    solver: AdaptiveSolver | FixedSolver,
    leaves: Leaves = SEEN,
    h0: float | None = None,
) -> Solution:
    u = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    field = field if isinstance(field, Field) else FieldOf(field)
    q = torch.zeros(1, 2, dtype=torch.float64)
    return SOLVE(InitialValue(field, (), u, q, leaves, h0), solver)


@pytest.mark.parametrize("first", FIRST_STEPS)
@pytest.mark.parametrize("name", ADAPTIVE_SOLVERS)
@pytest.mark.parametrize("rate", [-1.0, -80.0])
def test_adaptive_counts_are_calls(name: str, first: FirstStep, rate: float) -> None:
    field = Counted(rate)
    end = run(field, AdaptiveSolver(name, rtol=1e-4, atol=1e-4, first_step=first))
    assert end.evaluations == len(field.times)
    attempted = end.accepted + end.rejected
    expected = TABLEAUX[name].evaluations(attempted, heuristic=first == "heuristic")
    assert end.evaluations == expected
    assert max(field.times) == 1.0
    if rate == -80.0 and first == "whole":
        assert end.rejected > 0


@pytest.mark.parametrize("name", FIXED_SOLVERS)
def test_fixed_counts_are_calls(name: str) -> None:
    field = Counted()
    end = run(field, FixedSolver(name, steps=3))
    assert end.evaluations == len(field.times) == 3 * TABLEAUX[name].stages
    assert (end.accepted, end.rejected) == (3, 0)


def test_a_solve_counted_by_hand() -> None:
    """U' = 0: the heuristic finds h0 = 1e-6, h1 = 1e-6, so h = 1e-6; every error is zero, so
    steps grow tenfold: 1e-6, 1e-5, ..., 0.1 make 0.111111, and one more lands on 1: 7 steps.
    dopri5 takes 1 + 1 + 6 x 7 evaluations.
    """

    def still(s: Tensor, u: Tensor) -> Rates:
        return torch.zeros_like(u), torch.zeros_like(u[:, :1].T)

    end = run(still, LOOSE)
    assert end.first_step == pytest.approx(1e-6)
    assert (end.accepted, end.rejected) == (7, 0)
    assert end.evaluations == 44


@pytest.mark.parametrize("name", TABLEAUX)
def test_order_of_convergence(name: str) -> None:
    """Halving the step divides the error of u' = 4 u (1 - u) by 2^order, somewhat more for the
    pairs of order 5, whose leading error is small.
    """

    def field(s: Tensor, u: Tensor) -> Rates:
        return 4 * u * (1 - u), u.sum(1)[None]

    u = torch.tensor([[0.1]], dtype=torch.float64)
    q = torch.zeros(1, 1, dtype=torch.float64)
    exact = 1 / (1 + 9 * math.exp(-4))
    errors = []
    for steps in (16, 32):
        solver = FixedSolver("euler", steps)
        # An embedded pair runs with fixed steps too, if every first step is the whole of a part.
        y, p = u, q
        if name in FIXED_SOLVERS:
            y = SOLVE(InitialValue(FieldOf(field), (), y, p), replace(solver, name=name)).u
        else:
            pair = AdaptiveSolver(name, rtol=1e3, atol=1e3, first_step="whole")
            for i in range(steps):
                part = _part(field, i / steps, 1 / steps)
                y = SOLVE(InitialValue(FieldOf(part), (), y, p), pair).u
        errors.append(abs(float(y) - exact))
    order = math.log2(errors[0] / errors[1])
    assert -0.4 < order - TABLEAUX[name].order < 0.8


def _part(field: BoundField, start: float, length: float) -> BoundField:
    def part(s: Tensor, u: Tensor) -> Rates:
        du, dq = field(start + length * s, u)
        return length * du, length * dq

    return part


def test_mixed_norm_is_the_larger_leaf_and_rms_all_one_mean() -> None:
    from harness_torch.solve.control import error_norm

    u, q = torch.full((2, 3), 2.0), torch.full((1, 2), 5.0)
    assert error_norm("mixed", StateLeaves())(u, q) == pytest.approx(5.0)
    expected = math.sqrt((6 * 4 + 2 * 25) / 8)
    assert error_norm("rms_all", StateLeaves())(u, q) == pytest.approx(expected)
    assert math.isnan(error_norm("mixed", StateLeaves())(u, q * math.nan))


@pytest.mark.parametrize("name", ADAPTIVE_SOLVERS)
@pytest.mark.parametrize("ratio", [0.0, 1e-9, 0.3, 0.999, 1.0, 1.5, 1e6, math.inf])
def test_controller_is_torchdiffeqs(name: str, ratio: float) -> None:
    order = TABLEAUX[name].order

    def tensor(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64)

    expected = _optimal_step_size(
        tensor(0.1), tensor(ratio), tensor(0.9), tensor(10.0), tensor(0.2), order
    )
    assert next_step(0.1, ratio, TABLEAUX[name]) == pytest.approx(float(expected), rel=1e-14)


@pytest.mark.parametrize("rate", [-1e-9, -1.0, -40.0])
@pytest.mark.parametrize("name", ADAPTIVE_SOLVERS)
@pytest.mark.parametrize("length", [1.0, 0.5, 3.0])
def test_first_step_is_torchdiffeqs(length: float, name: str, rate: float) -> None:
    """The rule is applied in t, whose length is 1 in the unit of s."""
    field = Counted(rate)
    solver = AdaptiveSolver(name, rtol=1e-5, atol=1e-6)
    u = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    q = torch.zeros(0, 2, dtype=torch.float64)

    problem = InitialValue(field, (), u, q, length=length)
    scaled = length * rate
    found = first_step(lambda s, u: (scaled * u, q), problem, (scaled * u, q), solver)
    expected = _select_initial_step(
        lambda t, y: rate * y,
        torch.tensor(0.0, dtype=torch.float64),
        u,
        TABLEAUX[name].order - 1,
        solver.rtol,
        solver.atol,
        lambda y: y.square().mean().sqrt(),
    )
    assert found == pytest.approx(min(1.0, float(expected) / length), rel=1e-12)
    assert field.times == []


def test_reversed_field_undoes_the_field() -> None:
    field = Counted(1.5)
    tight = replace(LOOSE, rtol=1e-10, atol=1e-10)
    there = run(field, tight)
    back = SOLVE(InitialValue(Reversed(field), (), there.u, there.q), tight)
    start = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(back.u, start, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(back.q, torch.zeros_like(back.q), rtol=0, atol=1e-8)


def test_failures_are_data() -> None:
    assert run(Counted(-80.0), replace(LOOSE, max_steps=3)).failure == "max_steps"

    def blows_up(s: Tensor, u: Tensor) -> Rates:
        return u * (math.inf if s > 0.5 else 1.0), u.sum(1)[None]

    assert run(blows_up, LOOSE).failure == "non-finite"
    assert run(Counted(math.nan), LOOSE).failure == "non-finite"
    assert run(Counted(math.nan), replace(LOOSE, first_step="whole")).failure == "non-finite"

    signs = itertools.cycle((1.0, -1.0))

    def no_function(s: Tensor, u: Tensor) -> Rates:
        size = 1e30 * next(signs) if s > 0.5 else 0.0
        return torch.full_like(u, size), u.sum(1)[None]

    assert run(no_function, replace(LOOSE, first_step=0.1)).failure == "underflow"


def test_an_unfinished_solve_counts_what_it_did() -> None:
    field = Counted(-80.0)
    end = run(field, replace(LOOSE, max_steps=3))
    assert end.accepted + end.rejected == 3
    assert end.evaluations == len(field.times)
