"""Gradient modes of one block's solve.

`direct` backpropagates through the solver: the exact gradient of the discrete solution. `adjoint`
solves the adjoint ODE backwards (FFJORD's way; Chen et al., Neural Ordinary Differential
Equations, 2018, https://arxiv.org/abs/1806.07366, algorithm 1) at constant memory.

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

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from harness.trial import GradientName, SolverSpec
from harness_jax import solve
from harness_jax.control import Field, Stats, Tree, state_leaves

__all__ = ["Engine", "EngineName", "get_engine", "new_ledger", "solve_block"]


EngineName = Literal["diffrax", "native"]


class Engine(NamedTuple):
    """Who takes the steps.

    Arguments:
        solve: Solves without a gradient; the signature of `harness_jax.solve.solve`.
        solve_direct: Solves, differentiable by backpropagation through the steps; the signature
            of `harness_jax.solve.solve_direct`.
    """

    solve: Callable[..., tuple[Tree, Stats]]
    solve_direct: Callable[..., tuple[Tree, Stats]]


def get_engine(name: EngineName) -> Engine:
    """`native` is the production engine; `diffrax` takes the same steps in more time."""
    if name == "diffrax":
        from harness_jax import diffrax_engine  # imported only if wanted: it takes half a second

        return Engine(diffrax_engine.solve, diffrax_engine.solve_direct)
    return Engine(solve.solve, solve.solve_direct)


def new_ledger(blocks: int) -> jax.Array:
    """Zeros [blocks, 2] whose cotangent, after a backward pass in mode `adjoint`, holds the
    evaluations and the failure code of each block's backward solve.

    A backward pass has no other way to say anything but gradients.
    """
    return jnp.zeros((blocks, 2))


def solve_block(
    engine: Engine,
    mode: GradientName | None,
    field: Field,
    y0: Tree,
    inputs: Tree,
    fixed: Tree,
    ledger: jax.Array | None,
    solver: SolverSpec,
) -> tuple[Tree, Stats]:
    """Solves one block from data towards base.

    Arguments:
        engine: Who takes the steps.
        mode: Gradient mode; None if no gradient is wanted.
        field: dy/ds of the state y = (z, a, r...); it may depend on z alone.
        y0: The state at s = 0.
        inputs: What the field depends on and gets a gradient.
        fixed: What it depends on else.
        ledger: A row of `new_ledger`, read by mode `adjoint`.
        solver: Method and tolerances.
    """
    if mode == "direct":
        return engine.solve_direct(field, y0, inputs, fixed, solver, state_leaves)
    if mode == "adjoint":
        return _solve_adjoint(engine, field, y0, inputs, fixed, ledger, solver)
    return engine.solve(field, y0, inputs, fixed, solver, state_leaves)


def _solve_adjoint(
    engine: Engine,
    field: Field,
    y0: Tree,
    inputs: Tree,
    fixed: Tree,
    ledger: jax.Array | None,
    solver: SolverSpec,
) -> tuple[Tree, Stats]:
    """Two solves: forward, and backward for the gradient."""

    @jax.custom_vjp
    def run(y0: Tree, inputs: Tree, fixed: Tree, ledger: Tree) -> tuple[Tree, Stats]:
        del ledger
        return engine.solve(field, y0, inputs, fixed, solver, state_leaves)

    def forward(y0: Tree, inputs: Tree, fixed: Tree, ledger: Tree) -> tuple[Tree, Tree]:
        y1, stats = run(y0, inputs, fixed, ledger)
        return (y1, stats), (y1[:2], stats.first_step, inputs, fixed)

    def backward(saved: Tree, cotangents: Tree) -> tuple[Tree, Tree, None, jax.Array]:
        y1, h0, inputs, fixed = saved
        (a_z, a_a, *a_r), _ = cotangents
        zero = jax.tree.map(jnp.zeros_like, inputs)
        (_, (a_z, a_a), gradient), stats = engine.solve(
            _adjoint_field(field),
            (y1, (a_z, a_a), zero),
            inputs,
            (fixed, a_r),
            solver,
            _adjoint_leaves,
            h0,
        )
        entries = jnp.stack([stats.evaluations, stats.failure]).astype(new_ledger(1).dtype)
        return (a_z, a_a, *a_r), gradient, None, entries

    run.defvjp(forward, backward)
    return run(y0, inputs, fixed, ledger)


def _adjoint_field(field: Field) -> Field:
    """The adjoint ODE over u = 1 - s; its state is ((z, a), (a_z, a_a), adjoints of inputs)."""

    def augmented(u: jax.Array, y: Tree, inputs: Tree, rest: Tree) -> Tree:
        fixed, a_r = rest
        (z, _), (a_z, a_a), _ = y
        (dz, da, *_), vjp = jax.vjp(lambda z, inputs: field(1 - u, (z,), inputs, fixed), z, inputs)
        vjp_z, vjp_inputs = vjp((a_z, a_a, *a_r))
        return (-dz, -da), (vjp_z, jnp.zeros_like(a_a)), vjp_inputs

    return augmented


def _adjoint_leaves(y: Tree) -> Sequence[jax.Array]:
    """z, a, a_z, a_a and the adjoint of each input."""
    return jax.tree.leaves(y)
