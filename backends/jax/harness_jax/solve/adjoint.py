"""The adjoint ODE of a block's solve, from s = 1 to 0, under the solver of the forward solve and
starting with the first step that the forward solve started with:
    state      z, a recomputed; their adjoints a_z, a_a; an adjoint for each array that is trained,
               and a_T if the end time is
    rates      dz/ds = T f;  d a_z/ds = -(a_z, a_q)^T d(T f, dq/ds)/dz; of arrays and T with those
               in the place of z
    error norm over z, a, a_z, a_a, every array's adjoint and a_T: the largest RMS (`mixed`), or
               one RMS over all of their entries (`rms_all`). Regularizer integrals and their
               adjoints (constants) are no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from harness.trial import SolverSpec
from harness_jax.solve.counts import Stats
from harness_jax.solve.engines import Engine, FirstSteps
from harness_jax.solve.packing import Packing, packing_of
from harness_jax.solve.problem import InitialValue, Inputs, Rates, Tree, sums_of_squares

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
        backward_h0 = jnp.where(backward_h0 == 0, stats.first_step, backward_h0)
        return ((z, q), stats), ((z, q[:1]), backward_h0, inputs, fixed)

    def backward(saved: Tree, cotangents: Tree) -> tuple[Tree, ...]:
        (z, a), h0, inputs, fixed = saved
        (a_z, a_q), _ = cotangents
        packing = packing_of(inputs)
        rows = packing.pack(jax.tree.map(jnp.zeros_like, inputs))
        adjoint = InitialValue(
            _adjoint_rates(rates, packing),
            ((z, a_z), (a, a_q[:1], rows)),
            inputs,
            (fixed, a_q),
            partial(_adjoint_squares, packing),
            h0,
        )
        ((_, a_z), (*_, rows)), stats = engine.solve(adjoint, solver, rule=False)
        gradient = packing.unpack(rows)
        entries = [stats.evaluations, stats.failure, stats.largest]
        dtype = new_ledger(1).dtype
        row = jnp.stack([entry.astype(dtype) for entry in entries])
        return (a_z, a_q), gradient, None, None, FirstSteps(ledger=row)

    run.defvjp(forward, backward)
    return run(problem.y0, problem.inputs, problem.fixed, problem.h0, first)


def _adjoint_rates(rates: Rates, packing: Packing) -> Rates:
    """The adjoint ODE over u = 1 - s; its state is ((z, a_z), (a, a_a, adjoints of inputs))."""

    def augmented(u: jax.Array, state: Tree, inputs: Inputs, rest: Tree) -> tuple[Tree, Tree]:
        fixed, a_q = rest
        z, a_z = state
        (dz, dq), vjp = jax.vjp(lambda z, inputs: rates(1 - u, z, inputs, fixed), z, inputs)
        vjp_z, vjp_inputs = vjp((a_z, a_q))
        return (-dz, vjp_z), (-dq[:1], jnp.zeros_like(a_q[:1]), packing.pack(vjp_inputs))

    return augmented


def _adjoint_squares(packing: Packing, y: Tree) -> tuple[jax.Array, Sequence[int]]:
    """The error norm sees z, a, a_z, a_a and the adjoint of each input."""
    (z, a_z), (a, a_a, rows) = y
    leaves = [z, a_z, a, a_a]
    sums = jnp.concatenate([sums_of_squares(leaves), packing.squares(rows)])
    return sums, [*(leaf.size for leaf in leaves), *packing.sizes]
