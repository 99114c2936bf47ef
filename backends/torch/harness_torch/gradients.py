"""Gradient modes of one block's solve.

`direct` and `checkpoint` go back through the steps of the solver (`harness_torch.backprop`): the
exact gradient of the discrete solution. `direct` keeps what every accepted evaluation needs,
`checkpoint` only the state at the start of every accepted step.

`adjoint` solves the adjoint ODE backwards (`harness_torch.adjoint`), at constant memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.solvers import TABLEAUX
from harness.trial import GradientName, LibrarySolver, SolverSpec
from harness_torch.adjoint import AdjointField, AdjointInputs, AdjointLeaves
from harness_torch.backprop import back_through
from harness_torch.control import Field, Inputs
from harness_torch.counts import Counts, Watched
from harness_torch.evaluation import Wanted
from harness_torch.solve import Native, Solve, integrate

__all__ = ["forward_leaves", "solve_block"]


def forward_leaves(u: Tensor, q: Tensor) -> Sequence[Tensor]:
    """The error norm of a forward solve sees z and a, not the regularizer integrals."""
    return u, q[0]


class _Settings(NamedTuple):
    """How a block is solved; see `solve_block`."""

    field: Field
    solver: SolverSpec
    engine: Solve
    counts: Counts
    mode: GradientName
    h0: float | None
    h0_backward: float | None
    names: tuple[str, ...]

    def inputs(
        self,
        probe: Tensor | None,
        start: Tensor,
        span: Tensor,
        T: Tensor,
        arrays: Sequence[Tensor],
    ) -> Inputs:
        """Puts together what crossed an autograd function one by one."""
        return Inputs(dict(zip(self.names, arrays, strict=True)), T, probe, start, span)

    def wanted(self, needs_input_grad: Sequence[bool]) -> Wanted:
        """What gets a gradient, by autograd's flags; see `_Discrete.forward`."""
        T, *arrays = needs_input_grad[6:]
        names = tuple(name for name, yes in zip(self.names, arrays, strict=True) if yes)
        return Wanted(names, T)

    def gradients(
        self, needs_input_grad: Sequence[bool], a_z: Tensor, a_q: Tensor, found: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        """What `backward` returns: `found` in the order of `wanted`, None elsewhere."""
        T, *arrays = needs_input_grad[6:]
        rest = iter(found)
        a_arrays = [next(rest) if yes else None for yes in arrays]
        a_T = next(rest) if T else None
        return None, None, None, None, a_z, a_q, a_T, *a_arrays


def solve_block(
    field: Field,
    inputs: Inputs,
    z: Tensor,
    q: Tensor,
    solver: SolverSpec,
    mode: GradientName | None,
    counts: Counts,
    engine: Solve,
    h0: float | None = None,
    h0_backward: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Solves one block from data towards base. Gradients flow to z, q, `inputs.arrays` and
    `inputs.T`.

    Arguments:
        field: The augmented dynamics.
        inputs: What they are a function of.
        z: State, [batch, ...].
        q: a in row 0, then one row a regularizer; [1 + regularizers, batch].
        solver: Method and tolerances.
        mode: Gradient mode; None if no gradient is wanted.
        counts: Receives the counts.
        engine: Who takes the steps.
        h0: Replaces the solver's rule for the first step; costs no evaluation.
        h0_backward: Likewise for the adjoint solve, which else starts as the forward solve did.

    Returns:
        z and q at s = 1.
    """
    library = isinstance(solver, LibrarySolver) or not isinstance(engine, Native)
    if mode is None or (mode == "direct" and library):
        # A library's solve is differentiable as it is.
        with torch.set_grad_enabled(mode is not None):
            watched = field if mode is None else Watched(field, counts)
            solution = engine(watched, inputs, z, q, solver, forward_leaves, h0)
        counts.add_forward(solution)
        return solution.u, solution.q
    function = _Adjoint if mode == "adjoint" else _Discrete
    names = tuple(inputs.arrays)
    settings = _Settings(field, solver, engine, counts, mode, h0, h0_backward, names)
    fixed = (inputs.probe, inputs.start, inputs.span)
    leaves = (z, q, inputs.T, *inputs.arrays.values())
    end: tuple[Tensor, Tensor] = function.apply(settings, *fixed, *leaves)  # type: ignore[no-untyped-call]
    return end


class _Discrete(torch.autograd.Function):
    """One solve, and back through its steps."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        settings: _Settings,
        probe: Tensor | None,
        start: Tensor,
        span: Tensor,
        z: Tensor,
        q: Tensor,
        T: Tensor,
        *arrays: Tensor,
    ) -> tuple[Tensor, Tensor]:
        inputs = settings.inputs(probe, start, span, T, arrays)
        wanted = settings.wanted(ctx.needs_input_grad)
        engine = settings.engine
        assert isinstance(engine, Native)  # noqa: S101
        evaluator = engine.evaluator(settings.field, inputs, z, wanted)
        solution = integrate(
            evaluator,
            z,
            q,
            settings.solver,
            forward_leaves,
            settings.h0,
            record=True,
            tape=settings.mode == "direct",
        )
        settings.counts.add_forward(solution)
        ctx.settings, ctx.evaluator, ctx.steps = settings, evaluator, solution.steps
        ctx.like = [x.detach() for x in wanted.of(inputs)]
        return solution.u, solution.q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, a_z: Tensor, a_q: Tensor) -> Any:  # noqa: ANN401
        settings: _Settings = ctx.settings
        tableau = TABLEAUX[settings.solver.name]
        sums = [torch.zeros_like(x) for x in ctx.like]
        found = back_through(ctx.steps, tableau, ctx.evaluator, a_z, a_q, sums)
        settings.counts.vjp = found.vjp
        settings.counts.recompute = found.recompute
        return settings.gradients(ctx.needs_input_grad, found.u, a_q, found.sums)


class _Adjoint(torch.autograd.Function):
    """Two solves: forward without a graph, backward for the gradient."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        settings: _Settings,
        probe: Tensor | None,
        start: Tensor,
        span: Tensor,
        z: Tensor,
        q: Tensor,
        T: Tensor,
        *arrays: Tensor,
    ) -> tuple[Tensor, Tensor]:
        inputs = settings.inputs(probe, start, span, T, arrays)
        solution = settings.engine(
            settings.field, inputs, z, q, settings.solver, forward_leaves, settings.h0
        )
        settings.counts.add_forward(solution)
        ctx.settings, ctx.first_step = settings, solution.first_step
        ctx.save_for_backward(solution.u, solution.q, probe, start, span, T, *arrays)
        return solution.u, solution.q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, a_z: Tensor, a_q: Tensor) -> Any:  # noqa: ANN401
        settings: _Settings = ctx.settings
        z, q, probe, start, span, T, *arrays = ctx.saved_tensors
        inputs = settings.inputs(probe, start, span, T, arrays)
        wanted = settings.wanted(ctx.needs_input_grad)
        leaves = wanted.of(inputs)
        sizes = (a_q.shape[1], a_q.shape[1], *(x.numel() for x in leaves))
        solution = settings.engine(
            AdjointField(settings.field, wanted),
            AdjointInputs(inputs, a_q),
            torch.stack([z, a_z]),
            torch.cat([q[0], a_q[0], q.new_zeros(sum(sizes[2:]))]),
            settings.solver,
            AdjointLeaves(sizes),
            ctx.first_step if settings.h0_backward is None else settings.h0_backward,
        )
        settings.counts.backward = solution.evaluations
        settings.counts.largest_backward = solution.largest_step
        settings.counts.failure = settings.counts.failure or solution.failure
        parts = torch.split(solution.q, list(sizes))[2:]
        found = [part.view_as(x) for part, x in zip(parts, leaves, strict=True)]
        return settings.gradients(ctx.needs_input_grad, solution.u[1], a_q, found)
