"""A solve by a pair of states that can be followed back exactly, so that its gradient needs
nothing of it but the last pair.

S. McCallum, J. Foster, Efficient, accurate and stable gradients for neural ODEs, 2024,
https://arxiv.org/abs/2410.11648. With Psi_h(s, y) the increment of a step of the method, y = w at
the start:

    y1 = c y + (1 - c) w + Psi_h(s, w),  w1 = w - Psi_{-h}(s + h, y1),  c = 0.999;
    back: w = w1 + Psi_{-h}(s + h, y1),  y = (y1 - (1 - c) w - Psi_h(s, w)) / c.

The end of y is that of the solve. Integrals go along in the same way, but as no rate depends on
them they need not be followed back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.solvers import REVERSIBLE_COUPLING, TABLEAUX, Tableau
from harness.trial import FixedSolver
from harness_torch.solve.backprop import Gradient, again, popped, pulled
from harness_torch.solve.counts import Solution
from harness_torch.solve.problem import InitialValue, Rates
from harness_torch.solve.step import RungeKutta, Step
from harness_torch.solve.tape import TapedField

__all__ = ["back_through_pairs", "integrate_pairs"]

C = REVERSIBLE_COUPLING


@torch.no_grad()
def integrate_pairs(
    field: TapedField, problem: InitialValue, solver: FixedSolver
) -> tuple[Solution, Tensor]:
    """Takes the steps; the solution, and where w has come to.

    Arguments:
        field: The field with its inputs.
        problem: What is integrated.
        solver: Method and number of steps.
    """
    tableau, count, h = TABLEAUX[solver.name], solver.steps, 1 / solver.steps
    u, q = problem.u.detach().contiguous(), problem.q.detach().contiguous()
    method = RungeKutta(tableau, field, u, q, tape=False)

    def increment(s: float, h: float, end: float, u: Tensor) -> Rates:
        method.start(s, u)
        method.attempt(s, h, end, u)
        return method.combined(h, tableau.b, u, q)

    y, w = (u, q), (u, q)
    for index in range(count):
        s, end = index / count, (index + 1) / count
        du, dq = increment(s, h, end, w[0])
        y = C * y[0] + (1 - C) * w[0] + du, C * y[1] + (1 - C) * w[1] + dq
        du, dq = increment(end, -h, s, y[0])
        w = w[0] - du, w[1] - dq
    evaluations = 2 * tableau.evaluations(count, heuristic=False)
    return Solution(*y, evaluations, count, 0, h, h, h), w[0]


@torch.no_grad()
def back_through_pairs(
    solver: FixedSolver,
    field: TapedField,
    pair: tuple[Tensor, Tensor],
    a_u: Tensor,
    a_q: Tensor,
    sums: list[Tensor],
) -> Gradient:
    """Pulls the adjoints of (u, q) at the end of a solve back to its start.

    Arguments:
        solver: Method and number of steps.
        field: The field with its inputs.
        pair: The states u of y and w at the end.
        a_u: Adjoint of u at the end.
        a_q: Adjoint of q, the same at the start.
        sums: Zeros in the shapes of the wanted inputs.
    """
    tableau, count, h = TABLEAUX[solver.name], solver.steps, 1 / solver.steps
    (y, w), evaluations = pair, 0
    a_y, a_w, a_qy, a_qw = a_u, torch.zeros_like(a_u), a_q, torch.zeros_like(a_q)
    for index in reversed(range(count)):
        s, end = index / count, (index + 1) / count
        there = Step(end, -h, s, y, tableau.b, [])
        back, a, sums = _through(there, tableau, field, -a_w, -a_qw, sums)
        w, a_y = w + back, a_y + a
        here = Step(s, h, end, w, tableau.b, [])
        on, a, sums = _through(here, tableau, field, a_y, a_qy, sums)
        y = (y - (1 - C) * w - on) / C
        a_w, a_y = a_w + (1 - C) * a_y + a, C * a_y
        a_qw, a_qy = a_qw + (1 - C) * a_qy, C * a_qy
        evaluations += 2 * tableau.stages
    return Gradient(a_y + a_w, sums, evaluations, evaluations)


def _through(
    step: Step,
    tableau: Tableau,
    field: TapedField,
    a_u: Tensor,
    a_q: Tensor,
    sums: list[Tensor],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The increment of u in a step, the part of the adjoint of the step's start that comes by it,
    and the sums.
    """
    tapes, method = again(step, tableau, field, a_q)
    increment, _ = method.combined(step.h, step.weights, step.u, a_q)
    adjoints, sums = pulled(step, tableau, field, popped(tapes), a_u, a_q, sums)
    return increment, adjoints[:-1].sum(dim=0).view_as(a_u), sums
