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

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from harness.trial import GradientName, SolverSpec
from harness_jax import solve
from harness_jax.control import Field, Inputs, Rates, Stats, Tree, join, state_leaves

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
    """Zeros [blocks, 3] whose cotangent, after a backward pass in mode `adjoint`, holds of each
    block's backward solve the evaluations, the failure code and the largest accepted step.

    A backward pass has no other way to say anything but gradients.
    """
    return jnp.zeros((blocks, 3))


def solve_block(
    engine: Engine,
    mode: GradientName | None,
    field: Field,
    inputs: Inputs,
    fixed: Inputs,
    z: jax.Array,
    q: jax.Array,
    solver: SolverSpec,
    *,
    ledger: jax.Array | None = None,
    h0: jax.Array | None = None,
    backward_h0: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, Stats]:
    """Solves one block, or a piece of it; differentiable in z, q and inputs.

    Arguments:
        engine: Who takes the steps.
        mode: Gradient mode; None if no gradient is wanted.
        field: Right-hand side.
        inputs: What the field depends on and gets a gradient.
        fixed: What it depends on else.
        z: State at s = 0, [batch, ...].
        q: Its integrals, [rows, batch].
        solver: Method and tolerances.
        ledger: A row of `new_ledger`, needed by mode `adjoint`.
        h0: First step in place of the solver's rule, at no cost; 0 or None leaves it to the rule.
        backward_h0: First step of the adjoint solve; 0 or None means that of the forward solve.

    Returns:
        z and q at s = 1, and what the solve did.
    """
    rates = _rates(field)
    if mode == "adjoint":
        (z, q), stats = _solve_adjoint(
            engine, field, (z, q), inputs, fixed, solver, ledger, h0, backward_h0
        )
    else:
        solve = engine.solve if mode is None else engine.solve_direct
        (z, q), stats = solve(rates, (z, q), inputs, fixed, solver, state_leaves, h0)
    return z, q, stats


def _rates(field: Field) -> Rates:
    """The field over states (z, q)."""
    return lambda s, y, inputs, fixed: field(join(inputs, fixed), s, y[0])


def _solve_adjoint(
    engine: Engine,
    field: Field,
    y0: Tree,
    inputs: Inputs,
    fixed: Inputs,
    solver: SolverSpec,
    *extras: jax.Array | None,
) -> tuple[Tree, Stats]:
    """Two solves: forward, and backward for the gradient."""

    @jax.custom_vjp
    def run(y0: Tree, inputs: Inputs, fixed: Inputs, *extras: Tree) -> tuple[Tree, Stats]:
        _, h0, _ = extras
        return engine.solve(_rates(field), y0, inputs, fixed, solver, state_leaves, h0)

    def forward(y0: Tree, inputs: Inputs, fixed: Inputs, *extras: Tree) -> tuple[Tree, Tree]:
        (z, q), stats = run(y0, inputs, fixed, *extras)
        _, _, h0 = extras
        if h0 is None:
            h0 = jnp.zeros_like(stats.first_step)
        h0 = jnp.where(h0 == 0, stats.first_step, h0)
        return ((z, q), stats), ((z, q[:1]), h0, inputs, fixed)

    def backward(saved: Tree, cotangents: Tree) -> tuple[Tree, ...]:
        y1, h0, inputs, fixed = saved
        (a_z, a_q), _ = cotangents
        zero = jax.tree.map(jnp.zeros_like, inputs)
        (_, (a_z, _), gradient), stats = engine.solve(
            _adjoint_rates(field),
            (y1, (a_z, a_q[:1]), zero),
            inputs,
            (fixed, a_q),
            solver,
            jax.tree.leaves,
            h0,
            rule=False,
        )
        entries = [stats.evaluations, stats.failure, stats.largest]
        dtype = new_ledger(1).dtype
        row = jnp.stack([entry.astype(dtype) for entry in entries])
        return (a_z, a_q), gradient, None, row, None, None

    run.defvjp(forward, backward)
    return run(y0, inputs, fixed, *extras)


def _adjoint_rates(field: Field) -> Rates:
    """The adjoint ODE over u = 1 - s; its state is ((z, a), (a_z, a_a), adjoints of inputs)."""

    def augmented(u: jax.Array, y: Tree, inputs: Inputs, rest: Tree) -> Tree:
        fixed, a_q = rest
        (z, _), (a_z, a_a), _ = y
        (dz, dq), vjp = jax.vjp(lambda z, inputs: field(join(inputs, fixed), 1 - u, z), z, inputs)
        vjp_z, vjp_inputs = vjp((a_z, a_q))
        return (-dz, -dq[:1]), (vjp_z, jnp.zeros_like(a_a)), vjp_inputs

    return augmented
