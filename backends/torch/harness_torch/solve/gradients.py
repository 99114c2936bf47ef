"""Gradient modes of one block's solve.

`direct`, `checkpoint` and `symplectic` go back through the steps of the solver
(`harness_torch.solve.backprop`): the exact gradient of the discrete solution. `direct` keeps what
every accepted evaluation needs, the others only the state at the start of every accepted step;
`checkpoint` then needs room for the evaluations of a step, `symplectic` for one.

`reversible` solves by pairs of states (`harness_torch.solve.reversible`) and keeps the last.

`adjoint` solves the adjoint ODE backwards (`harness_torch.solve.adjoint`), at constant memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.errors import BackendError
from harness.solvers import TABLEAUX
from harness.trial import AdaptiveSolver, FixedSolver, SolverSpec
from harness_torch.solve.adjoint import AdjointField, AdjointInputs, AdjointLeaves
from harness_torch.solve.backprop import back_through
from harness_torch.solve.counts import Counts, Watched
from harness_torch.solve.engines import FirstSteps, How
from harness_torch.solve.native_engine import integrate
from harness_torch.solve.problem import Field, InitialValue, Inputs, Leaves
from harness_torch.solve.reversible import back_through_pairs, integrate_pairs
from harness_torch.solve.tape import Wanted

__all__ = ["solve_block"]


def solve_block(
    how: How, problem: InitialValue, first: FirstSteps, counts: Counts
) -> tuple[Tensor, Tensor]:
    """Solves one block, or a piece of it. Gradients flow to the state, the integrals, and in the
    inputs to `arrays` and `T`.

    Arguments:
        how: Who takes the steps, and the gradient mode.
        problem: What is integrated; its h0 is `first`'s, its length that of the inputs.
        first: First steps, in units of the solve's s.
        counts: Receives the counts.

    Returns:
        z and q at s = 1.
    """
    inputs: Inputs = problem.inputs
    problem = problem._replace(h0=first.forward, length=inputs.length)
    if how.mode is None or (how.mode == "direct" and how.stepper.taped_field is None):
        # A library's solve is differentiable as it is.
        with torch.set_grad_enabled(how.mode is not None):
            if how.mode is not None:
                problem = problem._replace(field=Watched(problem.field, counts))
            solution = how.stepper.solve(problem, how.solver)
        counts.add_forward(solution)
        return solution.u, solution.q
    functions = {"adjoint": _Adjoint, "reversible": _Reversible}
    function = functions.get(how.mode, _Discrete)
    names = tuple(inputs.arrays)
    settings = _Settings(how, problem.field, problem.leaves, first, counts, names)
    crossing = _Crossing(inputs.probe, inputs.start, inputs.span, problem.u, problem.q, inputs.T)
    end: tuple[Tensor, Tensor] = function.apply(settings, *crossing, *inputs.arrays.values())  # type: ignore[no-untyped-call]
    return end


class _Crossing(NamedTuple):
    """What crosses an autograd function one by one, in this order, before the arrays: tensors on
    the way in, flags or gradients on the way out.
    """

    probe: Any
    start: Any
    span: Any
    z: Any
    q: Any
    T: Any

    @classmethod
    def split(cls, values: Sequence[Any]) -> tuple[_Crossing, Sequence[Any]]:
        """Takes them apart from the arrays that follow."""
        count = len(cls._fields)
        return cls(*values[:count]), values[count:]


class _Settings(NamedTuple):
    """How a block is solved; see `solve_block`. `names` are those of the arrays."""

    how: How
    field: Field
    leaves: Leaves
    first: FirstSteps
    counts: Counts
    names: tuple[str, ...]

    def problem(self, tensors: Sequence[Any]) -> InitialValue:
        """Puts together what crossed an autograd function."""
        at, arrays = _Crossing.split(tensors)
        by_name = dict(zip(self.names, arrays, strict=True))
        inputs = Inputs(by_name, at.T, at.probe, at.start, at.span)
        h0, length = self.first.forward, inputs.length
        return InitialValue(self.field, inputs, at.z, at.q, self.leaves, h0, length)

    def wanted(self, ctx: Any) -> Wanted:  # noqa: ANN401
        """What gets a gradient, by autograd's flags."""
        needs, arrays = _Crossing.split(ctx.needs_input_grad[1:])
        names = tuple(name for name, yes in zip(self.names, arrays, strict=True) if yes)
        return Wanted(names, needs.T)

    def gradients(
        self,
        ctx: Any,  # noqa: ANN401
        a_z: Tensor,
        a_q: Tensor,
        cotangents: Sequence[Tensor],
    ) -> tuple[Tensor | None, ...]:
        """What `backward` returns: `cotangents` in the order of `wanted`, None elsewhere."""
        needs, arrays = _Crossing.split(ctx.needs_input_grad[1:])
        rest = iter(cotangents)
        a_arrays = [next(rest) if yes else None for yes in arrays]
        a_T = next(rest) if needs.T else None
        return None, *_Crossing(None, None, None, a_z, a_q, a_T), *a_arrays


class _Discrete(torch.autograd.Function):
    """One solve, and back through its steps."""

    @staticmethod
    def forward(ctx: Any, settings: _Settings, *tensors: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        how, wanted = settings.how, settings.wanted(ctx)
        if how.stepper.taped_field is None:
            raise BackendError(f"gradient '{how.mode}' needs the steps of the native engine")
        problem = settings.problem(tensors)
        field = how.stepper.taped_field(problem, wanted)
        solution = integrate(field, problem, how.solver, record=True, tape=how.mode == "direct")
        settings.counts.add_forward(solution)
        ctx.settings, ctx.field, ctx.steps = settings, field, solution.steps
        ctx.like = [x.detach() for x in wanted.of(problem.inputs)]
        return solution.u, solution.q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, a_z: Tensor, a_q: Tensor) -> Any:  # noqa: ANN401
        settings: _Settings = ctx.settings
        tableau = TABLEAUX[settings.how.solver.name]
        sums = [torch.zeros_like(x) for x in ctx.like]
        one_by_one = settings.how.mode == "symplectic"
        steps, field = ctx.steps, ctx.field
        pulled = back_through(steps, tableau, field, a_z, a_q, sums, one_by_one=one_by_one)
        settings.counts.vjp = pulled.vjp
        settings.counts.recompute = pulled.recompute
        return settings.gradients(ctx, pulled.u, a_q, pulled.sums)


class _Reversible(torch.autograd.Function):
    """One solve by pairs of states, and back by the same."""

    @staticmethod
    def forward(ctx: Any, settings: _Settings, *tensors: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        how, wanted = settings.how, settings.wanted(ctx)
        if how.stepper.taped_field is None or not isinstance(how.solver, FixedSolver):
            raise BackendError("gradient 'reversible' needs equal steps of the native engine")
        problem = settings.problem(tensors)
        field = how.stepper.taped_field(problem, wanted)
        solution, w = integrate_pairs(field, problem, how.solver)
        settings.counts.add_forward(solution)
        ctx.settings, ctx.field = settings, field
        ctx.like = [x.detach() for x in wanted.of(problem.inputs)]
        ctx.save_for_backward(solution.u, w)
        return solution.u, solution.q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, a_z: Tensor, a_q: Tensor) -> Any:  # noqa: ANN401
        settings: _Settings = ctx.settings
        sums = [torch.zeros_like(x) for x in ctx.like]
        solver, pair = settings.how.solver, ctx.saved_tensors
        assert isinstance(solver, FixedSolver)  # noqa: S101
        pulled = back_through_pairs(solver, ctx.field, pair, a_z, a_q, sums)
        settings.counts.vjp = pulled.vjp
        settings.counts.recompute = pulled.recompute
        return settings.gradients(ctx, pulled.u, a_q, pulled.sums)


class _Adjoint(torch.autograd.Function):
    """Two solves: forward without a graph, backward for the gradient."""

    @staticmethod
    def forward(ctx: Any, settings: _Settings, *tensors: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        solution = settings.how.stepper.solve(settings.problem(tensors), settings.how.solver)
        settings.counts.add_forward(solution)
        ctx.settings, ctx.first_step = settings, solution.first_step
        at, arrays = _Crossing.split(tensors)
        # What the adjoint solve starts from, in the places of what the forward solve started from.
        ctx.save_for_backward(*at._replace(z=solution.u, q=solution.q), *arrays)
        return solution.u, solution.q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, a_z: Tensor, a_q: Tensor) -> Any:  # noqa: ANN401
        settings: _Settings = ctx.settings
        field, inputs, z, q, *_ = settings.problem(ctx.saved_tensors)
        wanted, first = settings.wanted(ctx), settings.first.backward
        leaves = wanted.of(inputs)
        a, means = q[0], settings.leaves.seen(z, q)[1].reshape(-1)[q.shape[1] :]
        state = (q.shape[1], q.shape[1], *[1] * len(means))
        sizes = (*state, *(x.numel() for x in leaves))
        solution = settings.how.stepper.solve(
            InitialValue(
                AdjointField(field, wanted, len(means) > 0),
                AdjointInputs(inputs, a_q),
                torch.stack([z, a_z]),
                torch.cat([a, a_q[0], means, q.new_zeros(sum(sizes[len(state) :]))]),
                AdjointLeaves(sizes if _is_full(settings.how.solver) else state),
                _backward_h0(settings.how.solver, ctx.first_step, first),
                inputs.length,
            ),
            settings.how.solver,
        )
        settings.counts.backward = solution.evaluations
        settings.counts.largest_backward = solution.largest_step
        settings.counts.failure = settings.counts.failure or solution.failure
        parts = torch.split(solution.q, list(sizes))[len(state) :]
        cotangents = [part.view_as(x) for part, x in zip(parts, leaves, strict=True)]
        return settings.gradients(ctx, solution.u[1], a_q, cotangents)


def _is_full(solver: SolverSpec) -> bool:
    """Whether the error norm of an adjoint solve sees the adjoints of what is trained."""
    return not (isinstance(solver, AdaptiveSolver) and solver.adjoint_norm == "seminorm")


def _backward_h0(solver: SolverSpec, forward: float | None, warm: float | None) -> float | None:
    """First step of an adjoint solve; None leaves it to the solver's rule."""
    if warm is not None:
        return warm
    anew = isinstance(solver, AdaptiveSolver) and solver.backward_first_step == "heuristic"
    return None if anew else forward
