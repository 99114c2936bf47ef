"""Gradient modes of one block's solve.

`direct` backpropagates through the solver: the exact gradient of the discrete solution, at the
cost of keeping every stage. `adjoint` solves the adjoint ODE backwards (FFJORD's way; Chen et al.,
Neural Ordinary Differential Equations, 2018, https://arxiv.org/abs/1806.07366, algorithm 1) at
constant memory.

The adjoint ODE, from s = 1 to 0, under the solver of the forward solve and starting with the first
step that the forward solve started with:
    state      z, a recomputed; their adjoints a_z, a_a; an adjoint for each array that is trained,
               and a_T if the end time is
    rates      dz/ds = T f;  d a_z/ds = -(a_z, a_q)^T d(T f, dq/ds)/dz;  likewise arrays and T
    error norm over z, a, a_z, a_a, every array's adjoint and a_T: the largest RMS (`mixed`), or
               one RMS over all of their entries (`rms_all`). Regularizer integrals and their
               adjoints (constants) are no part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.trial import GradientName, SolverSpec
from harness_torch.control import Field, Rates
from harness_torch.solve import Solution, Solve

__all__ = ["BlockArrays", "Counts", "forward_leaves", "solve_block"]

FieldOf = Callable[[Mapping[str, Tensor], Tensor], Field]
"""(arrays, T) -> field of a block."""


@dataclass(frozen=True)
class BlockArrays:
    """What a block's field depends on.

    Arguments:
        trained: Trainable arrays of the dynamics, by name.
        T: End time, 0-dimensional; carries gradient only if it is trained.
        field_of: Builds the field from such arrays and such an end time.
        solve: The engine.
    """

    trained: Mapping[str, Tensor]
    T: Tensor
    field_of: FieldOf
    solve: Solve


@dataclass
class Counts:
    """What the solves of one block took; the adjoint's entries arrive during the backward pass."""

    forward: int = 0
    accepted: int = 0
    rejected: int = 0
    backward: int = 0
    failure: str | None = None

    def add_forward(self, solution: Solution) -> None:
        """Records the forward solve."""
        self.forward = solution.evaluations
        self.accepted = solution.accepted
        self.rejected = solution.rejected
        self.failure = solution.failure


def forward_leaves(u: Tensor, q: Tensor) -> Sequence[Tensor]:
    """The error norm of a forward solve sees z and a, not the regularizer integrals."""
    return u, q[0]


def solve_block(
    block: BlockArrays,
    z: Tensor,
    q: Tensor,
    solver: SolverSpec,
    mode: GradientName | None,
    counts: Counts,
) -> tuple[Tensor, Tensor]:
    """Solves one block from data towards base.

    Arguments:
        block: The block.
        z: State, [batch, D].
        q: a in row 0, then one row a regularizer; [1 + regularizers, batch].
        solver: Method and tolerances.
        mode: Gradient mode; None if no gradient is wanted.
        counts: Receives the counts.

    Returns:
        z and q at s = 1.
    """
    if mode == "adjoint":
        inputs = (z, q, block.T, *block.trained.values())
        end: tuple[Tensor, Tensor] = _Adjoint.apply(block, solver, counts, *inputs)  # type: ignore[no-untyped-call]
        return end
    with torch.set_grad_enabled(mode == "direct"):
        solution = block.solve(
            block.field_of(block.trained, block.T), z, q, solver, forward_leaves
        )
    counts.add_forward(solution)
    return solution.u, solution.q


class _Adjoint(torch.autograd.Function):
    """Two solves: forward without a graph, backward for the gradient."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        block: BlockArrays,
        solver: SolverSpec,
        counts: Counts,
        z: Tensor,
        q: Tensor,
        T: Tensor,
        *arrays: Tensor,
    ) -> tuple[Tensor, Tensor]:
        solution = block.solve(block.field_of(block.trained, T), z, q, solver, forward_leaves)
        counts.add_forward(solution)
        ctx.block, ctx.solver, ctx.counts = block, solver, counts
        ctx.first_step = solution.first_step
        ctx.save_for_backward(solution.u, solution.q, T, *arrays)
        return solution.u, solution.q

    @staticmethod
    def backward(ctx: Any, a_z: Tensor, a_q: Tensor) -> Any:  # noqa: ANN401
        z, q, T, *arrays = ctx.saved_tensors
        leaves = [x.detach().requires_grad_() for x in arrays]
        T_leaf = T.detach().requires_grad_(ctx.needs_input_grad[5])
        inputs = [*leaves, T_leaf] if T_leaf.requires_grad else leaves
        named = dict(zip(ctx.block.trained, leaves, strict=True))
        with torch.enable_grad():
            field = ctx.block.field_of(named, T_leaf)
        adjoint = _AdjointOde(field, inputs, a_q)
        solution = ctx.block.solve(
            adjoint,
            torch.stack([z, a_z]),
            adjoint.initial(q),
            ctx.solver,
            adjoint.error_leaves,
            ctx.first_step,
        )
        ctx.counts.backward = solution.evaluations
        ctx.counts.failure = ctx.counts.failure or solution.failure
        gradients = adjoint.gradients(solution.q)
        a_T = gradients.pop() if T_leaf.requires_grad else None
        return None, None, None, solution.u[1], a_q, a_T, *gradients


class _AdjointOde:
    """The adjoint ODE over its own time 1 - s, from 0 to 1: u = (z, a_z) stacked, q = (a, a_a,
    adjoints of the inputs) flat.

    Arguments:
        field: The block's field, built from `inputs`.
        inputs: What gets a gradient; leaves that require one.
        a_q: Adjoint of q, constant along the path; [1 + regularizers, batch].
    """

    def __init__(self, field: Field, inputs: Sequence[Tensor], a_q: Tensor) -> None:
        self._field, self._inputs, self._a_q = field, inputs, a_q
        batch = a_q.shape[1]
        self._sizes = [batch, batch, *(x.numel() for x in inputs)]

    def __call__(self, elapsed: float, u: Tensor) -> Rates:
        z, a_z = u.detach().unbind()
        z.requires_grad_()
        with torch.enable_grad():
            dz, dq = self._field(1 - elapsed, z)
        # Evaluations share the graph of what does not depend on the time, so it must survive; the
        # rest is freed with dz and dq.
        vjp_z, *vjp = torch.autograd.grad(
            (dz, dq),
            (z, *self._inputs),
            (a_z, self._a_q),
            retain_graph=True,
            materialize_grads=True,
        )
        da = dq[0].detach()
        rates = torch.cat([-da, torch.zeros_like(da), *(x.reshape(-1) for x in vjp)])
        return torch.stack([-dz.detach(), vjp_z]), rates

    def initial(self, q: Tensor) -> Tensor:
        """The integrals at s = 1: a as the forward solve left it, a_a, zeros."""
        return torch.cat([q[0], self._a_q[0], q.new_zeros(sum(self._sizes[2:]))])

    def error_leaves(self, u: Tensor, q: Tensor) -> Sequence[Tensor]:
        """z, a_z, a, a_a and the adjoint of each input."""
        return *u.unbind(), *torch.split(q, self._sizes)

    def gradients(self, q: Tensor) -> list[Tensor]:
        """The adjoints of the inputs, in their shapes."""
        parts = torch.split(q, self._sizes)[2:]
        return [part.view_as(x) for part, x in zip(parts, self._inputs, strict=True)]
