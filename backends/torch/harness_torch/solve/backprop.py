"""The gradient of the discrete solution: back through the accepted steps of a solve, the step
sizes held fixed.

For a step u1 = u + h sum_i w_i k_i, q1 = q + h sum_i w_i l_i with (k_i, l_i) the rates at
U_i = u + h sum_j a_ij k_j, and adjoints a_u of u1 and a_q of q1 (which is that of q too):

    a_ki = h (w_i a_u + sum_{m > i} a_mi a_Um),  a_li = h w_i a_q,
    a_Ui = (a_ki, a_li)^T d(k_i, l_i)/dU_i,  and a_u of u is a_u + sum_i a_Ui.

The last stage of an FSAL pair has no weight in its own step; as the first of the next it is
differentiated there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.solvers import Tableau
from harness_torch.solve.step import RungeKutta, Step, matrix
from harness_torch.solve.tape import Tape, TapedField

__all__ = ["Gradient", "back_through"]


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
    """
    a = matrix(tableau, a_u.device)
    vjp = recompute = 0
    while steps:
        step = steps.pop()
        tapes = step.tapes
        if not tapes:
            tapes = _again(step, tableau, field, a_q)
            recompute += len(tapes)
        count = len(tapes)
        weights = torch.tensor([step.weights], dtype=torch.float64, device=a_u.device)
        # Row i: U_i as a function of the k_j; the last: u1.
        rows = (step.h * torch.cat([a[:count, :count], weights])).to(a_u.dtype)
        adjoints = a_u.new_empty((count + 1, a_u.numel()))
        adjoints[count] = a_u.reshape(-1)
        for i in reversed(range(count)):
            a_k = torch.mv(adjoints[i + 1 :].t(), rows[i + 1 :, i]).view_as(a_u)
            a_l = rows[count, i] * a_q
            cotangent, sums = field.vjp(tapes.pop(), a_k, a_l, sums)
            adjoints[i] = cotangent.reshape(-1)
        a_u = adjoints.sum(dim=0).view_as(a_u)
        vjp += count
    return Gradient(a_u, sums, vjp, recompute)


def _again(step: Step, tableau: Tableau, field: TapedField, a_q: Tensor) -> list[Tape]:
    """The evaluations of a step once more, with their tapes."""
    method = RungeKutta(tableau, field, step.u, a_q, tape=True)
    method.start(step.s, step.u)
    method.attempt(step.s, step.h, step.end, step.u, len(step.weights))
    return method.step(step.s, step.h, step.end, step.u, step.weights).tapes
