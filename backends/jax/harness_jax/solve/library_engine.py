"""The second engine: diffrax. It takes the same steps as `harness_jax.solve.native_engine`, with
the same tableaux; and it runs every solver of its own (`LibrarySolver`) under its own control.

Kept to check the production engine, and to say what a comparison with diffrax would say.

What makes it agree (docs/numerics.md, section 1): our own error norm, first step and f(y0), which
diffrax then does not evaluate again; a pure integral controller; `throw=False`, since its error
callback would also keep the program out of the compilation cache.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from harness.solvers import TABLEAUX, Tableau
from harness.trial import AdaptiveSolver, FixedSolver, LibrarySolver, SolverSpec
from harness_jax.solve.control import all_finite, error_norm, first_step
from harness_jax.solve.counts import (
    MAX_STEPS,
    NON_FINITE,
    NOT_CONVERGED,
    UNDERFLOW,
    Stats,
    evaluations,
)
from harness_jax.solve.problem import InitialValue, Leaves, Tree, time_dtype
from harness_jax.solve.record import SLOTS

__all__ = [
    "library_solver",
    "solve",
    "solve_checkpoint",
    "solve_direct",
]


def solve(
    problem: InitialValue, solver: SolverSpec, *, rule: bool = True
) -> tuple[tuple[Tree, Tree], Stats]:
    """Solves without a gradient. See `harness_jax.solve.native_engine.solve`."""
    del rule
    return _solve(problem, solver, diffrax.ForwardMode())


def solve_checkpoint(problem: InitialValue, solver: SolverSpec) -> tuple[tuple[Tree, Tree], Stats]:
    """As `solve`, differentiable in y0 and inputs by backpropagation through the steps."""
    adjoint = diffrax.RecursiveCheckpointAdjoint(checkpoints=min(SLOTS, _max_steps(solver)))
    end, stats = _solve(problem, solver, adjoint)
    return end, stats._replace(recompute=stats.vjp)


def solve_direct(problem: InitialValue, solver: SolverSpec) -> tuple[tuple[Tree, Tree], Stats]:
    """As `solve_checkpoint`, by jax's own differentiation of a loop of bounded length."""
    return _solve(problem, solver, diffrax.DirectAdjoint())


class _Watched(diffrax.AbstractStepSizeController[Any, Any]):
    """Notes what `Stats` wants to know. Its state is that of the controller inside, then sizes:
    of the first step; of the last step and of the one under way, both before they are cut to land
    on the end; of the largest accepted one.
    """

    inner: diffrax.AbstractStepSizeController[Any, Any]

    def wrap(self, direction: Any) -> _Watched:  # noqa: ANN401
        return _Watched(self.inner.wrap(direction))

    def init(self, terms: Any, t0: Any, *rest: Any) -> tuple[Any, Any]:  # noqa: ANN401
        end, state = self.inner.init(terms, t0, *rest)
        h = end - t0
        return end, (state, h, h, h, jnp.zeros_like(h))

    def adapt_step_size(self, t0: Any, t1: Any, *rest: Any) -> tuple[Any, ...]:  # noqa: ANN401
        *others, (inner, first, _, under_way, largest) = rest
        adapt: Any = self.inner.adapt_step_size
        keep, start, end, jump, inner, result = adapt(t0, t1, *others, inner)
        largest = jnp.where(keep, jnp.maximum(largest, t1 - t0), largest)
        state = inner, first, under_way, end - start, largest
        return keep, start, end, jump, state, result


def _max_steps(solver: SolverSpec) -> int:
    if isinstance(solver, AdaptiveSolver):
        return solver.max_steps
    if isinstance(solver, LibrarySolver):
        return solver.steps or solver.max_steps
    return solver.steps


def _controller(
    solver: AdaptiveSolver, leaves: Leaves, dtype: np.dtype[Any]
) -> diffrax.AbstractStepSizeController[Any, Any]:
    return diffrax.PIDController(
        rtol=solver.rtol,
        atol=solver.atol,
        norm=error_norm(solver.norm, leaves),
        pcoeff=0,
        icoeff=1,
        dcoeff=0,
        factormin=0.2,
        factormax=10,
        safety=0.9,
        # Without it diffrax would try steps too small to move s until max_steps.
        dtmin=float(np.finfo(dtype).eps) / 2,
    )


def _solve(
    problem: InitialValue, solver: SolverSpec, adjoint: diffrax.AbstractAdjoint
) -> tuple[tuple[Tree, Tree], Stats]:
    rates, y0, inputs, fixed = problem.rates, problem.y0, problem.inputs, problem.fixed
    dtype = time_dtype(y0)
    zero = jnp.zeros((), dtype)
    known = jnp.asarray(False)
    state: Tree = None
    h: jax.Array | None = None
    controller: diffrax.AbstractStepSizeController[Any, Any] = diffrax.ConstantStepSize()
    if isinstance(solver, LibrarySolver):
        method = library_solver(solver)
        if solver.steps is None:
            controller = diffrax.PIDController(rtol=solver.rtol, atol=solver.atol)
        else:
            h = jnp.asarray(1 / solver.steps, dtype)
    else:
        method = _tabulated(solver.name)
        if isinstance(solver, FixedSolver):
            h = jnp.asarray(1 / solver.steps, dtype)
        else:
            controller = _controller(solver, problem.leaves, dtype)
            h, known = _first(problem, solver)
            state = jnp.asarray(False), rates(zero, y0[0], inputs, fixed)
    healthy = jnp.asarray(True) if h is None else ~jnp.isnan(h)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda s, y, args: rates(jnp.asarray(s), y[0], *args)),
        method,
        t0=zero,
        t1=jnp.ones((), dtype),
        dt0=None if h is None else lax.stop_gradient(jnp.where(healthy, h, jnp.ones_like(h))),
        y0=y0,
        args=(inputs, fixed),
        saveat=diffrax.SaveAt(t1=True, controller_state=True),
        stepsize_controller=_Watched(controller),
        adjoint=adjoint,
        max_steps=_max_steps(solver),
        solver_state=state,
        throw=False,
    )
    end: tuple[Tree, Tree] = jax.tree.map(lambda leaf: leaf[0], solution.ys)
    # For example an implicit method whose iteration diverges at a step that cannot be shortened.
    failure = jnp.where(solution.result == diffrax.RESULTS.successful, 0, NOT_CONVERGED)
    failure = jnp.where(solution.result == diffrax.RESULTS.max_steps_reached, MAX_STEPS, failure)
    failure = jnp.where(solution.result == diffrax.RESULTS.dt_min_reached, UNDERFLOW, failure)
    failure = jnp.where(healthy & all_finite(end), failure, NON_FINITE)
    accepted = jnp.asarray(solution.stats["num_accepted_steps"], jnp.int32)
    rejected = jnp.asarray(solution.stats["num_rejected_steps"], jnp.int32)
    if isinstance(solver, LibrarySolver):
        count = _evaluations_of(method, accepted + rejected, adaptive=solver.steps is None)
        vjp = _evaluations_of(method, accepted, adaptive=False)
    else:
        count = evaluations(solver, accepted + rejected, known)
        vjp = evaluations(solver, accepted, False)
    _, first, proposed, _, largest = solution.controller_state
    return end, Stats(
        accepted=accepted,
        rejected=rejected,
        evaluations=count,
        first_step=first if h is None else h,
        proposed=proposed,
        largest=largest,
        failure=failure.astype(jnp.int32),
        vjp=vjp,
        recompute=jnp.zeros_like(vjp),
    )


def _first(problem: InitialValue, solver: AdaptiveSolver) -> tuple[jax.Array, jax.Array]:
    """The first step, and whether the heuristic found it. Its f(y0) has no gradient, so that which
    diffrax starts with is evaluated anew, once more than is counted.
    """
    y0, inputs = lax.stop_gradient((problem.y0, problem.inputs))

    def evaluate(tape: None, i: jax.Array, s: jax.Array, y: Tree) -> tuple[Tree, None]:
        del tape, i
        return problem.rates(s, y[0], inputs, problem.fixed), None

    heuristic = solver.first_step in ("heuristic", "warm")
    given = jnp.zeros((), time_dtype(y0)) if problem.h0 is None else problem.h0
    known = (given == 0) & heuristic
    problem = problem._replace(y0=y0, inputs=inputs)
    h, _, _ = first_step(evaluate, problem, solver, known.astype(jnp.int32), None)
    if solver.first_step not in ("heuristic", "warm"):
        h = jnp.asarray(1.0 if solver.first_step == "whole" else solver.first_step, h.dtype)
    return jnp.where(given == 0, h, given), known


@cache
def _tabulated(name: str) -> diffrax.AbstractSolver[Any]:
    """The diffrax solver of a tableau of harness.solvers."""
    ours = TABLEAUX[name]
    if ours.stages == 1:
        return diffrax.Euler()  # diffrax has no tableaux of one stage

    class Tabulated(diffrax.AbstractERK):
        tableau: ClassVar[diffrax.ButcherTableau] = _butcher(ours)
        interpolation_cls: ClassVar[Any] = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

        def order(self, terms: object) -> int:
            del terms
            return ours.order

    return Tabulated()


def _butcher(ours: Tableau) -> diffrax.ButcherTableau:
    return diffrax.ButcherTableau(
        c=np.array(ours.c[1:]),
        a_lower=tuple(np.array(row) for row in ours.a[1:]),
        b_sol=np.array(ours.b),
        b_error=np.array(ours.error or [0.0] * ours.stages),
    )


def library_solver(spec: LibrarySolver) -> diffrax.AbstractSolver[Any]:
    """The solver `diffrax:<Name>`, one of `harness_jax.libraries`."""
    kind: Any = getattr(diffrax, spec.library.removeprefix("diffrax:"))
    if issubclass(kind, diffrax.AbstractImplicitSolver):
        # Equal steps have no tolerances that the root finder could take for its own.
        kind = partial(kind, root_finder=diffrax.VeryChord(rtol=spec.rtol, atol=spec.atol))
    solver: diffrax.AbstractSolver[Any] = kind()
    return solver


def _evaluations_of(
    solver: diffrax.AbstractSolver[Any], steps: jax.Array, *, adaptive: bool
) -> jax.Array:
    """Evaluations of a solver of diffrax in so many steps: its stages, and with `adaptive` two for
    the first step. Those of the root finder of an implicit solver are not known and not counted.
    """
    tableau = getattr(solver, "tableau", None)
    stages, reused = 1, 0
    if isinstance(tableau, diffrax.ButcherTableau):
        stages = tableau.num_stages
        reused = int(bool(tableau.fsal))
    counted: jax.Array = jnp.asarray((stages - reused) * steps + reused + 2 * int(adaptive))
    return counted
