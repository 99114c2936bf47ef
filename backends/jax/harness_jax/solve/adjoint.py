"""The adjoint ODE of a block's solve, from s = 1 to 0, under the solver of the forward solve and
starting with the first step that the forward solve started with:
    state      z, a recomputed; their adjoints a_z, a_a; an adjoint for each array that is trained,
               and a_T if the end time is
    rates      dz/ds = T f;  d a_z/ds = -(a_z, a_q)^T d(T f, dq/ds)/dz; of arrays and T with those
               in the place of z
    error norm over z, a, a_z, a_a, every array's adjoint and a_T: the largest RMS (`mixed`), or
               one RMS over all of their entries (`rms_all`). Regularizer integrals and their
               adjoints (constants) are no part of it, nor in the seminorm the adjoints of arrays
               and T, integrals on which nothing depends (P. Kidger, R. Chen, T. Lyons, "Hey,
               that's not an ODE": faster ODE adjoints via seminorms, 2021,
               https://arxiv.org/abs/2009.09457).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from harness.trial import AdaptiveSolver, SolverSpec
from harness_jax.solve.counts import Stats
from harness_jax.solve.engines import Engine, FirstSteps
from harness_jax.solve.packing import Packing, packing_of
from harness_jax.solve.problem import InitialValue, Inputs, Leaves, Rates, Tree, sums_of_squares

__all__ = ["EVALUATIONS", "FAILURE", "LARGEST", "new_ledger", "solve_adjoint"]


EVALUATIONS, FAILURE, LARGEST = range(3)
"""Entries of a row of the ledger."""


def new_ledger(blocks: int) -> jax.Array:
    """Zeros [blocks, 3] whose cotangent, after a backward pass in mode `adjoint`, holds of each
    block's backward solve the evaluations, the failure code and the largest accepted step.

    A backward pass has no other way to say anything but gradients.
    """
    return jnp.zeros((blocks, 3))


def solve_adjoint(
    engine: Engine, problem: InitialValue, solver: SolverSpec, first: FirstSteps
) -> tuple[Tree, Stats]:
    """Two solves: forward, and backward for the gradient.

    Arguments:
        engine: Who takes the steps.
        problem: What is integrated.
        solver: Method and tolerances.
        first: First step of the backward solve, and a row of `new_ledger`.
    """
    rates = problem.rates
    # Whether the backward solve applies the rule where no first step is given.
    anew = isinstance(solver, AdaptiveSolver) and solver.backward_first_step == "heuristic"
    full = not (isinstance(solver, AdaptiveSolver) and solver.adjoint_norm == "seminorm")

    @jax.custom_vjp
    def run(
        y0: Tree, inputs: Inputs, fixed: Inputs, h0: Tree, first: FirstSteps
    ) -> tuple[Tree, Stats]:
        return engine.solve(problem._replace(y0=y0, inputs=inputs, fixed=fixed, h0=h0), solver)

    def forward(
        y0: Tree, inputs: Inputs, fixed: Inputs, h0: Tree, first: FirstSteps
    ) -> tuple[Tree, Tree]:
        (z, q), stats = run(y0, inputs, fixed, h0, first)
        backward_h0 = first.backward
        if backward_h0 is None:
            backward_h0 = jnp.zeros_like(stats.first_step)
        if not anew:
            backward_h0 = jnp.where(backward_h0 == 0, stats.first_step, backward_h0)
        return ((z, q), stats), (problem.leaves.seen((z, q)), backward_h0, inputs, fixed)

    def backward(saved: Tree, cotangents: Tree) -> tuple[Tree, ...]:
        (z, a, means), h0, inputs, fixed = saved
        (a_z, a_q), _ = cotangents
        packing = packing_of(inputs)
        rows = packing.pack(jax.tree.map(jnp.zeros_like, inputs))
        adjoint = InitialValue(
            _adjoint_rates(rates, packing, problem.leaves),
            ((z, a_z), (a, a_q[:1], means, rows)),
            inputs,
            (fixed, a_q),
            AdjointLeaves(packing, full),
            h0,
            lambda inputs, rest: problem.length(inputs, rest[0]),
        )
        ((_, a_z), (*_, rows)), stats = engine.solve(adjoint, solver, rule=anew)
        gradient = packing.unpack(rows)
        entries = [stats.evaluations, stats.failure, stats.largest]
        dtype = new_ledger(1).dtype
        row = jnp.stack([entry.astype(dtype) for entry in entries])
        return (a_z, a_q), gradient, None, None, FirstSteps(ledger=row)

    run.defvjp(forward, backward)
    return run(problem.y0, problem.inputs, problem.fixed, problem.h0, first)


def _adjoint_rates(rates: Rates, packing: Packing, leaves: Leaves) -> Rates:
    """The adjoint ODE over u = 1 - s; its state is ((z, a_z), (a, a_a, means of the regularizers
    if `leaves`, what the error norm sees of the state of the forward solve, has them, adjoints of
    inputs)).
    """

    def augmented(u: jax.Array, state: Tree, inputs: Inputs, rest: Tree) -> tuple[Tree, Tree]:
        fixed, a_q = rest
        z, a_z = state
        (dz, dq), vjp = jax.vjp(lambda z, inputs: rates(1 - u, z, inputs, fixed), z, inputs)
        vjp_z, vjp_inputs = vjp((a_z, a_q))
        _, da, dmeans = leaves.seen((dz, dq))
        dq_seen = -da, jnp.zeros_like(a_q[:1]), -dmeans
        return (-dz, vjp_z), (*dq_seen, packing.pack(vjp_inputs))

    return augmented


@dataclass(frozen=True)
class AdjointLeaves:
    """What the error norm of an adjoint solve sees: z, a_z, a, a_a, the means of regularizers if
    asked for, and, unless it is a seminorm, the adjoint of each input.

    Arguments:
        packing: How the adjoints of the inputs lie in rows.
        full: It is no seminorm.
    """

    packing: Packing
    full: bool = True

    def seen(self, y: Tree) -> Tree:
        """See `harness_jax.solve.problem.Leaves`."""
        return y

    def squares(self, y: Tree) -> tuple[jax.Array, Sequence[int]]:
        """See `harness_jax.solve.problem.Leaves`."""
        (z, a_z), (a, a_a, means, rows) = y
        leaves = [z, a_z, a, a_a, *means]
        sums, sizes = sums_of_squares(leaves), [leaf.size for leaf in leaves]
        if not self.full:
            return sums, sizes
        return jnp.concatenate([sums, self.packing.squares(rows)]), [*sizes, *self.packing.sizes]
