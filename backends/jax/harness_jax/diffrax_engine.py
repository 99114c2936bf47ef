"""The second engine: diffrax takes the same steps as `harness_jax.solve`, with the same tableaux.

Kept to check the production engine, and to say what a comparison with diffrax would say.

What makes it agree (docs/numerics.md, section 1): our own error norm, first step and f(y0), which
diffrax then does not evaluate again; a pure integral controller; `throw=False`, since its error
callback would also keep the program out of the compilation cache.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from harness.solvers import TABLEAUX, Tableau
from harness.trial import AdaptiveSolver, SolverSpec
from harness_jax.control import (
    MAX_STEPS,
    NON_FINITE,
    UNDERFLOW,
    Leaves,
    Rates,
    Stats,
    Tree,
    all_finite,
    choose_first_step,
    error_norm,
    evaluations,
    time_dtype,
)
from harness_jax.record import SLOTS

__all__ = ["erk", "solve", "solve_direct"]


def solve(
    rates: Rates,
    y0: Tree,
    inputs: Tree,
    fixed: Tree,
    solver: SolverSpec,
    leaves: Leaves,
    h0: jax.Array | None = None,
    *,
    rule: bool = True,
) -> tuple[Tree, Stats]:
    """Integrates from s = 0 to 1; not to be differentiated. See `harness_jax.solve.solve`."""
    return _diffeqsolve(
        rates, y0, inputs, fixed, solver, leaves, h0, rule, adjoint=diffrax.ForwardMode()
    )


def solve_direct(
    rates: Rates,
    y0: Tree,
    inputs: Tree,
    fixed: Tree,
    solver: SolverSpec,
    leaves: Leaves,
    h0: jax.Array | None = None,
) -> tuple[Tree, Stats]:
    """As `solve`, differentiable in y0 and inputs by backpropagation through the steps."""
    adjoint = diffrax.RecursiveCheckpointAdjoint(checkpoints=min(SLOTS, _max_steps(solver)))
    return _diffeqsolve(rates, y0, inputs, fixed, solver, leaves, h0, True, adjoint=adjoint)


@functools.cache
def erk(name: str) -> diffrax.AbstractSolver[Any]:
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


def _max_steps(solver: SolverSpec) -> int:
    return solver.max_steps if isinstance(solver, AdaptiveSolver) else solver.steps


class _Watched(diffrax.AbstractStepSizeController[Any, Any]):
    """Notes what `Stats` wants to know: its state ends with the size of the step under way before
    it is cut to land on the end, and the largest accepted one.
    """

    inner: diffrax.AbstractStepSizeController[Any, Any]

    def wrap(self, direction: Any) -> _Watched:  # noqa: ANN401
        return _Watched(self.inner.wrap(direction))

    def init(self, terms: Any, t0: Any, *rest: Any) -> tuple[Any, Any]:  # noqa: ANN401
        end, state = self.inner.init(terms, t0, *rest)
        return end, (state, end - t0, end - t0, jnp.zeros_like(end - t0))

    def adapt_step_size(self, t0: Any, t1: Any, *rest: Any) -> tuple[Any, ...]:  # noqa: ANN401
        *others, (inner, _, under_way, largest) = rest
        keep, start, end, jump, inner, result = self.inner.adapt_step_size(t0, t1, *others, inner)
        largest = jnp.where(keep, jnp.maximum(largest, t1 - t0), largest)
        return keep, start, end, jump, (inner, under_way, end - start, largest), result


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


def _diffeqsolve(
    rates: Rates,
    y0: Tree,
    inputs: Tree,
    fixed: Tree,
    solver: SolverSpec,
    leaves: Leaves,
    h0: jax.Array | None,
    rule: bool,
    *,
    adjoint: diffrax.AbstractAdjoint,
) -> tuple[Tree, Stats]:
    dtype = time_dtype(y0)
    zero = jnp.zeros((), dtype)
    heuristic = jnp.asarray(False)
    solver_state: Tree = None
    controller: diffrax.AbstractStepSizeController[Any, Any] = diffrax.ConstantStepSize()
    if isinstance(solver, AdaptiveSolver):
        f0 = rates(zero, y0, inputs, fixed)
        h0, heuristic = choose_first_step(
            lambda s, y: rates(s, y, inputs, fixed), y0, f0, solver, leaves, h0, rule
        )
        controller, solver_state = _controller(solver, leaves, dtype), (jnp.asarray(False), f0)
    else:
        h0 = jnp.asarray(1 / solver.steps, dtype)
    controller = _Watched(controller)
    start = jnp.asarray(h0)
    healthy = ~jnp.isnan(start)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda s, y, args: rates(jnp.asarray(s), y, *args)),
        erk(solver.name),
        t0=zero,
        t1=jnp.ones((), dtype),
        dt0=lax.stop_gradient(jnp.where(healthy, start, jnp.ones_like(start))),
        y0=y0,
        args=(inputs, fixed),
        saveat=diffrax.SaveAt(t1=True, controller_state=True),
        stepsize_controller=controller,
        adjoint=adjoint,
        max_steps=_max_steps(solver),
        solver_state=solver_state,
        throw=False,
    )
    end = jax.tree.map(lambda leaf: leaf[0], solution.ys)
    failure = jnp.where(solution.result == diffrax.RESULTS.max_steps_reached, MAX_STEPS, 0)
    failure = jnp.where(solution.result == diffrax.RESULTS.dt_min_reached, UNDERFLOW, failure)
    failure = jnp.where(healthy & all_finite(end), failure, NON_FINITE)
    _, proposed, _, largest = solution.controller_state
    accepted = jnp.asarray(solution.stats["num_accepted_steps"], jnp.int32)
    rejected = jnp.asarray(solution.stats["num_rejected_steps"], jnp.int32)
    return end, Stats(
        accepted=accepted,
        rejected=rejected,
        evaluations=evaluations(solver, accepted + rejected, heuristic),
        first_step=start,
        proposed=proposed,
        largest=largest,
        failure=failure.astype(jnp.int32),
    )
