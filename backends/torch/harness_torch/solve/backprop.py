"""The gradient of the discrete solution: back through the accepted steps of a solve, the step
sizes held fixed.

For a step u1 = u + h sum_i w_i k_i, q1 = q + h sum_i w_i l_i with (k_i, l_i) the rates at
U_i = u + h sum_j a_ij k_j, and adjoints a_u of u1 and a_q of q1 (which is that of q too):

    a_ki = h (w_i a_u + sum_{m > i} a_mi a_Um),  a_li = h w_i a_q,
    a_Ui = (a_ki, a_li)^T d(k_i, l_i)/dU_i,  and a_u of u is a_u + sum_i a_Ui.

The last stage of an FSAL pair has no weight in its own step; as the first of the next it is
differentiated there.

What is not kept is evaluated again: a step at a time, or, in mode `symplectic`, an evaluation at a
time, for which the states U_i of the step come first. That is the gradient of T. Matsubara, Y.
Miyatake, T. Yaguchi, Symplectic adjoint method for exact gradient of neural ODE with minimal
memory, 2021, https://arxiv.org/abs/2102.09750: their partner method with weights b_j a_ji / b_i is
the recursion above, which has no need to divide by weights that may be 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from harness.solvers import Tableau
from harness_torch.solve.step import RungeKutta, Step, matrix
from harness_torch.solve.tape import Tape, TapedField

__all__ = ["Gradient", "again", "back_through", "popped", "pulled"]


class Gradient(NamedTuple):
    """Adjoints at the start of a solve, and what they took.

    Arguments:
        u: Adjoint of u.
        sums: Adjoints of the wanted inputs.
        vjp: Evaluations differentiated.
        recompute: Evaluations done again.
    """

    u: Tensor
    sums: list[Tensor]
    vjp: int
    recompute: int


@torch.no_grad()
def back_through(
    steps: list[Step],
    tableau: Tableau,
    field: TapedField,
    a_u: Tensor,
    a_q: Tensor,
    sums: list[Tensor],
    *,
    one_by_one: bool = False,
) -> Gradient:
    """Pulls the adjoints of (u, q) at the end of a solve back to its start.

    Arguments:
        steps: The accepted steps; consumed, so that what they keep is freed on the way. Without
            tapes their evaluations are done again.
        tableau: The method.
        field: The field with its inputs.
        a_u: Adjoint of u at the end.
        a_q: Adjoint of q, the same at the start.
        sums: Zeros in the shapes of the wanted inputs.
        one_by_one: Without tapes evaluations are done again one at a time, not a step at a time.
    """
    vjp = recompute = 0
    while steps:
        step = steps.pop()
        count = len(step.weights)
        if step.tapes:
            tapes = popped(step.tapes)
        elif one_by_one:
            tapes = _one_by_one(step, tableau, field, a_q)
            recompute += 2 * count - 1
        else:
            tapes = popped(again(step, tableau, field, a_q)[0])
            recompute += count
        adjoints, sums = pulled(step, tableau, field, tapes, a_u, a_q, sums)
        a_u = adjoints.sum(dim=0).view_as(a_u)
        vjp += count
    return Gradient(a_u, sums, vjp, recompute)


def pulled(
    step: Step,
    tableau: Tableau,
    field: TapedField,
    tapes: Iterator[Tape],
    a_u: Tensor,
    a_q: Tensor,
    sums: list[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Adjoints of the stages of a step, then that of its end, [stages + 1, size]; and the sums.

    Arguments:
        step: The step.
        tableau: The method.
        field: The field with its inputs.
        tapes: Of the evaluations, the last first.
        a_u: Adjoint of u at the end.
        a_q: Adjoint of q.
        sums: Adjoints of the wanted inputs so far.
    """
    count = len(step.weights)
    a = matrix(tableau, a_u.device)[:count, :count]
    weights = torch.tensor([step.weights], dtype=torch.float64, device=a_u.device)
    # Row i: U_i as a function of the k_j; the last: u1.
    rows = (step.h * torch.cat([a, weights])).to(a_u.dtype)
    adjoints = a_u.new_empty((count + 1, a_u.numel()))
    adjoints[count] = a_u.reshape(-1)
    for i in reversed(range(count)):
        a_k = torch.mv(adjoints[i + 1 :].t(), rows[i + 1 :, i]).view_as(a_u)
        a_l = rows[count, i] * a_q
        cotangent, sums = field.vjp(next(tapes), a_k, a_l, sums)
        adjoints[i] = cotangent.reshape(-1)
    return adjoints, sums


def again(
    step: Step, tableau: Tableau, field: TapedField, a_q: Tensor
) -> tuple[list[Tape], RungeKutta]:
    """The evaluations of a step once more, with their tapes, and who did them."""
    method = RungeKutta(tableau, field, step.u, a_q, tape=True)
    method.start(step.s, step.u)
    method.attempt(step.s, step.h, step.end, step.u, len(step.weights))
    return method.step(step.s, step.h, step.end, step.u, step.weights).tapes, method


def popped(tapes: list[Tape]) -> Iterator[Tape]:
    """The tapes, the last first, each of which is freed when it has been used."""
    while tapes:
        yield tapes.pop()


def _one_by_one(step: Step, tableau: Tableau, field: TapedField, a_q: Tensor) -> Iterator[Tape]:
    """The tapes of a step, of which one lives at a time."""
    method = RungeKutta(tableau, field, step.u, a_q, tape=False)
    points = method.points(step.s, step.h, step.end, step.u, len(step.weights))
    for point in reversed(points):
        yield field.taped(*point)[1]
