"""One solve over s in [0, 1], under the step-size control of docs/numerics.md: the production
engine, a plain loop over the tableau.

    - a step is accepted if the error ratio is at most 1;
    - a step that would pass s = 1 is shortened to land on it (`end: stop`), or is taken and the
      end interpolated within it (`end: interpolate`);
    - an infinite ratio is a rejection like any other, NaN ends the solve;
    - the last stage of an FSAL pair is the first of the next step.

The state is a pair: `u`, the variables the right-hand side depends on, and `q`, integrals along
their path (the log-density, regularizers, and in the adjoint ODE the parameter gradients). Stage
values are needed of u alone. Nothing here is differentiable; `harness_torch.solve.backprop` goes
back through the steps that a solve recorded.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from harness.errors import BackendError
from harness.solvers import TABLEAUX
from harness.trial import AdaptiveSolver, FixedSolver, SolverSpec
from harness_torch.solve.control import (
    end_weights,
    first_step,
    next_step,
    scaled_norm,
)
from harness_torch.solve.counts import Solution
from harness_torch.solve.problem import InitialValue
from harness_torch.solve.step import RungeKutta, Step
from harness_torch.solve.tape import Eager, TapedField, Wanted

__all__ = ["Native", "integrate"]


class Native:
    """The production engine, operation by operation; see `harness_torch.solve.engines.Engine`."""

    compiles: ClassVar[bool] = False

    def taped_field(self, problem: InitialValue, wanted: Wanted | None) -> TapedField:
        """The field with its inputs, for states like the first; `wanted` gets a gradient."""
        return Eager(problem.field, problem.inputs, wanted)

    def solve(self, problem: InitialValue, solver: SolverSpec) -> Solution:
        """Solves without a gradient."""
        return integrate(self.taped_field(problem, None), problem, solver)


@torch.no_grad()
def integrate(
    field: TapedField,
    problem: InitialValue,
    solver: SolverSpec,
    *,
    record: bool = False,
    tape: bool = False,
) -> Solution:
    """Takes the steps.

    Arguments:
        field: The field with its inputs.
        problem: What is integrated.
        solver: Method and tolerances.
        record: Keep the accepted steps.
        tape: Keep in them what the products of their evaluations need.
    """
    u, q = problem.u.detach().contiguous(), problem.q.detach().contiguous()
    method = RungeKutta(TABLEAUX[solver.name], field, u, q, tape=tape)
    steps: list[Step] | None = [] if record else None
    if isinstance(solver, FixedSolver):
        return _fixed(method, u, q, solver.steps, steps)
    if not isinstance(solver, AdaptiveSolver):
        raise BackendError(f"solver '{solver.name}' has no tableau")
    return _adaptive(method, field, problem._replace(u=u, q=q), solver, steps)


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
    field: TapedField,
    problem: InitialValue,
    solver: AdaptiveSolver,
    steps: list[Step] | None,
) -> Solution:
    """The loop for an FSAL pair; every pair of harness.solvers is one."""
    tableau, (u, q), h0 = method.tableau, (problem.u, problem.q), problem.h0
    errors = tableau.error or ()
    size = scaled_norm(solver, problem.leaves)
    rates = method.start(0.0, u)
    heuristic = h0 is None and solver.first_step in ("heuristic", "warm")
    if h0 is None:
        h0 = first_step(field.value, problem, rates, solver)
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
        ratio = size(method.combined(h, errors, u, q), (u, q), (u1, q1))
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
