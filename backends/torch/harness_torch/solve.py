"""One solve over s in [0, 1], under the step-size control of docs/numerics.md: the production
engine, a plain loop over the tableau.

    - a step is accepted if the error ratio is at most 1;
    - a step that would pass s = 1 is shortened to land on it (`end: stop`), or is taken and the
      end interpolated within it (`end: interpolate`);
    - an infinite ratio is a rejection like any other, NaN ends the solve;
    - the last stage of an FSAL pair is the first of the next step.

The state is a pair: `u`, the variables the right-hand side depends on, and `q`, integrals along
their path (the log-density, regularizers, and in the adjoint ODE the parameter gradients). Stage
values are needed of u alone. Nothing here is differentiable; `harness_torch.backprop` goes back
through the steps that a solve recorded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.errors import BackendError
from harness.solvers import TABLEAUX
from harness.trial import AdaptiveSolver, FixedSolver, LibrarySolver, SolverSpec
from harness_torch.control import (
    BoundField,
    Field,
    Leaves,
    Norm,
    Rates,
    error_norm,
    first_step,
    next_step,
    scaled,
)
from harness_torch.evaluation import Eager, Evaluator, Wanted
from harness_torch.interpolation import end_weights
from harness_torch.step import RungeKutta, Step

__all__ = ["Native", "Reversed", "Solution", "Solve", "integrate", "solve"]


@dataclass(frozen=True)
class Solution:
    """The end of a solve and what it took.

    Arguments:
        u: State at s = 1.
        q: Integrals at s = 1.
        evaluations: Evaluations of the field, rejected steps and the heuristic included.
        accepted: Accepted steps.
        rejected: Rejected steps.
        first_step: Size of the first attempted step; None if only the library knows.
        largest_step: The largest accepted step; 0 if there was none.
        proposed: What the controller proposed for the last step, before it was cut to land.
        failure: None, or `max_steps`, `non-finite` or `underflow`; u and q are then where the
            solve stopped.
        steps: The accepted steps, if they were recorded.
    """

    u: Tensor
    q: Tensor
    evaluations: int
    accepted: int
    rejected: int
    first_step: float | None
    largest_step: float
    proposed: float
    failure: str | None = None
    steps: list[Step] | None = None


class Solve(Protocol):
    """The signature of an engine."""

    def __call__(
        self,
        field: Field,
        inputs: Any,  # noqa: ANN401
        u: Tensor,
        q: Tensor,
        solver: SolverSpec,
        leaves: Leaves,
        h0: float | None = None,
    ) -> Solution:
        """Integrates from s = 0 to 1.

        Arguments:
            field: The right-hand side.
            inputs: What it is a function of.
            u: Initial state.
            q: Initial integrals.
            solver: Method and tolerances.
            leaves: What the error norm sees.
            h0: Replaces the solver's rule for the first step; costs no evaluation.
        """


@dataclass(frozen=True)
class Reversed(Field):
    """The field that runs from s = 1 to 0, over its own time 0 to 1."""

    field: Field

    def bind(self, inputs: Any) -> BoundField:  # noqa: ANN401
        """See `Field.bind`."""
        bound = self.field.bind(inputs)

        def reversed_field(s: Tensor, u: Tensor) -> Rates:
            du, dq = bound(1.0 - s, u)
            return -du, -dq

        return reversed_field


class Native:
    """The production engine; every operation on its own."""

    compiles = False
    """Whether a first solve takes its time to compile."""

    def evaluator(
        self,
        field: Field,
        inputs: Any,  # noqa: ANN401
        u: Tensor,
        wanted: Wanted | None,
    ) -> Evaluator:
        """Who evaluates the field at states like u; `wanted` gets a gradient."""
        return Eager(field, inputs, wanted)

    def __call__(
        self,
        field: Field,
        inputs: Any,  # noqa: ANN401
        u: Tensor,
        q: Tensor,
        solver: SolverSpec,
        leaves: Leaves,
        h0: float | None = None,
    ) -> Solution:
        """See `Solve`; a library's solver runs in its library."""
        if isinstance(solver, LibrarySolver):
            from harness_torch import torchdiffeq_engine

            return torchdiffeq_engine.solve(field, inputs, u, q, solver, leaves, h0)
        return integrate(self.evaluator(field, inputs, u, None), u, q, solver, leaves, h0)


solve = Native()
"""An engine without settings."""


@torch.no_grad()
def integrate(
    evaluator: Evaluator,
    u: Tensor,
    q: Tensor,
    solver: SolverSpec,
    leaves: Leaves,
    h0: float | None = None,
    *,
    record: bool = False,
    tape: bool = False,
) -> Solution:
    """Takes the steps.

    Arguments:
        evaluator: Who evaluates the field.
        u: Initial state.
        q: Initial integrals.
        solver: Method and tolerances.
        leaves: What the error norm sees.
        h0: Replaces the solver's rule for the first step; costs no evaluation.
        record: Keep the accepted steps.
        tape: Keep in them what the products of their evaluations need.
    """
    u, q = u.detach().contiguous(), q.detach().contiguous()
    method = RungeKutta(TABLEAUX[solver.name], evaluator, u, q, tape=tape)
    steps: list[Step] | None = [] if record else None
    if isinstance(solver, FixedSolver):
        return _fixed(method, u, q, solver.steps, steps)
    if not isinstance(solver, AdaptiveSolver):
        raise BackendError(f"solver '{solver.name}' has no tableau")
    return _adaptive(method, evaluator, u, q, solver, error_norm(solver.norm, leaves), h0, steps)


def _fixed(
    method: RungeKutta, u: Tensor, q: Tensor, count: int, steps: list[Step] | None
) -> Solution:
    h, weights = 1 / count, method.tableau.b
    for index in range(count):
        s, end = index / count, (index + 1) / count
        method.start(s, u)
        method.attempt(s, h, end, u)
        if steps is not None:
            steps.append(method.step(s, h, end, u, weights))
        u, q = method.advanced(h, weights, u), method.integrated(h, weights, q)
    evaluations = method.tableau.evaluations(count, heuristic=False)
    return Solution(u, q, evaluations, count, 0, h, h, h, None, steps)


def _adaptive(
    method: RungeKutta,
    evaluator: Evaluator,
    u: Tensor,
    q: Tensor,
    solver: AdaptiveSolver,
    norm: Norm,
    h0: float | None,
    steps: list[Step] | None,
) -> Solution:
    """The loop for an FSAL pair; every pair of harness.solvers is one."""
    tableau = method.tableau
    errors = tableau.error or ()
    rates = method.start(0.0, u)
    heuristic = h0 is None and solver.first_step in ("heuristic", "warm")
    if h0 is None:
        h0 = first_step(evaluator.value, u, q, rates, solver, norm)
    s, h, proposed, largest, accepted, rejected = 0.0, h0, h0, 0.0, 0, 0
    failure = None if math.isfinite(h) else "non-finite"
    while s < 1 and failure is None:
        if accepted + rejected == solver.max_steps:
            failure = "max_steps"
            break
        if s + h == s:
            failure = "underflow"
            break
        end, proposed, weights = s + h, h, tableau.b
        if end > 1 and solver.end == "stop":
            end, h = 1.0, 1 - s
        u1 = method.attempt(s, h, end, u)
        q1 = method.integrated(h, weights, q)
        error_u, error_q = method.combined(h, errors, u, q)
        ratio = norm(scaled(error_u, solver, u, u1), scaled(error_q, solver, q, q1))
        if ratio <= 1:
            if end > 1:
                weights = end_weights(tableau, (1 - s) / h)
                u1, q1 = method.advanced(h, weights, u), method.integrated(h, weights, q)
            if steps is not None:
                steps.append(method.step(s, h, end, u, weights))
            s, u, q = end, u1, q1
            method.accept()
            accepted += 1
            largest = max(largest, h)
        else:
            rejected += 1
        if math.isnan(ratio):
            failure = "non-finite"
        h = next_step(h, ratio, tableau)
    evaluations = tableau.evaluations(accepted + rejected, heuristic)
    return Solution(u, q, evaluations, accepted, rejected, h0, largest, proposed, failure, steps)
