"""The stages of a Runge-Kutta step, in buffers that a whole solve reuses.

Sums over stages are one matrix-vector product each, faster than a chain of additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.solvers import Tableau
from harness_torch.solve.problem import Rates
from harness_torch.solve.tape import Tape, TapedField

__all__ = ["RungeKutta", "Step", "matrix"]


class Step(NamedTuple):
    """An accepted step.

    Arguments:
        s: Where it starts.
        h: Its size.
        end: Where it ends.
        u: State at its start.
        weights: Of the stages in the state that follows: y + h sum_j w_j k_j. Stages after the
            last that counts are left out.
        tapes: Of its evaluations; empty if they were not kept.
    """

    s: float
    h: float
    end: float
    u: Tensor
    weights: Sequence[float]
    tapes: list[Tape]


class RungeKutta:
    """Evaluates stages.

    Arguments:
        tableau: The method.
        field: The field with its inputs.
        u: A state.
        q: Its integrals.
        tape: Keep what the products of the evaluations need.
    """

    def __init__(
        self, tableau: Tableau, field: TapedField, u: Tensor, q: Tensor, *, tape: bool
    ) -> None:
        self.tableau, self._field = tableau, field
        self._tapes: list[Tape] | None = [None] * tableau.stages if tape else None
        self._du = u.new_empty((tableau.stages, u.numel()))
        self._dq = q.new_empty((tableau.stages, q.numel()))
        self._a = matrix(tableau, u.device)

    def start(self, s: float, u: Tensor) -> Rates:
        """Evaluates the first stage."""
        return self._evaluate(0, s, u)

    def attempt(
        self, s: float, h: float, end: float, u: Tensor, stages: int | None = None
    ) -> Tensor:
        """Evaluates the others, or those up to `stages`, of a step of size h from s to end.

        Returns:
            The value of the last stage; for an FSAL pair the state at the end of the step.
        """
        ha, stage = (h * self._a).to(u.dtype), u
        for i in range(1, stages or self.tableau.stages):
            at, stage = self._point(i, s, h, end, u, ha)
            self._evaluate(i, at, stage)
        return stage

    def points(
        self, s: float, h: float, end: float, u: Tensor, stages: int
    ) -> list[tuple[float, Tensor]]:
        """Times and states of the first `stages` of a step; evaluates all but the last of them."""
        ha, found = (h * self._a).to(u.dtype), [(s, u)]
        for i in range(1, stages):
            self._evaluate(i - 1, *found[-1])
            found.append(self._point(i, s, h, end, u, ha))
        return found

    def accept(self) -> None:
        """The last stage of this step becomes the first of the next."""
        self._du[0], self._dq[0] = self._du[-1], self._dq[-1]
        if self._tapes is not None:
            self._tapes[0] = self._tapes[-1]

    def advanced(self, h: float, weights: Sequence[float], u: Tensor) -> Tensor:
        """Returns u + h sum_j w_j k_j."""
        return torch.addmv(u.view(-1), self._du.t(), _times(h, weights, u)).view_as(u)

    def integrated(self, h: float, weights: Sequence[float], q: Tensor) -> Tensor:
        """Returns q + h sum_j w_j l_j."""
        return torch.addmv(q.view(-1), self._dq.t(), _times(h, weights, q)).view_as(q)

    def combined(
        self, h: float, weights: Sequence[float], u: Tensor, q: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns h sum_j w_j k_j and h sum_j w_j l_j, in the shapes of u and q."""
        hw = _times(h, weights, u)
        return torch.mv(self._du.t(), hw).view_as(u), torch.mv(self._dq.t(), hw).view_as(q)

    def step(self, s: float, h: float, end: float, u: Tensor, weights: Sequence[float]) -> Step:
        """The record of the step just attempted."""
        count = 1 + max(i for i, weight in enumerate(weights) if weight)
        tapes = [] if self._tapes is None else self._tapes[:count]
        return Step(s, h, end, u, weights[:count], tapes)

    def _point(
        self, i: int, s: float, h: float, end: float, u: Tensor, ha: Tensor
    ) -> tuple[float, Tensor]:
        """Time and state of a stage, from the rates of those before it."""
        node = self.tableau.c[i]
        state = torch.addmv(u.view(-1), self._du[:i].t(), ha[i, :i]).view_as(u)
        return (end if node == 1 else s + node * h), state

    def _evaluate(self, i: int, s: float, u: Tensor) -> Rates:
        if self._tapes is None:
            rates = self._field.value(s, u)
        else:
            rates, self._tapes[i] = self._field.taped(s, u)
        self._du[i].copy_(rates[0].reshape(-1))
        self._dq[i].copy_(rates[1].reshape(-1))
        return rates


def matrix(tableau: Tableau, device: torch.device) -> Tensor:
    """The coefficients a_ij as a square matrix, in float64: h a_ij is to be rounded once."""
    rows = [(*row, *[0.0] * (tableau.stages - len(row))) for row in tableau.a]
    return torch.tensor(rows, dtype=torch.float64, device=device)


def _times(h: float, weights: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor([h * w for w in weights], dtype=like.dtype, device=like.device)
