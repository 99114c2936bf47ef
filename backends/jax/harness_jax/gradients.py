"""Gradient modes of one block's solve.

`direct` and `checkpoint` backpropagate through the solver (`harness_jax.backprop`): the exact
gradient of the discrete solution. `adjoint` solves the adjoint ODE backwards (FFJORD's way; Chen
et al., Neural Ordinary Differential Equations, 2018, https://arxiv.org/abs/1806.07366, algorithm
1) at constant memory.

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
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from harness.trial import EngineName, GradientName, LibrarySolver, SolverSpec
from harness_jax import backprop, solve
from harness_jax.control import (
    Field,
    Inputs,
    Problem,
    Rates,
    Stats,
    Tree,
    join,
    state_squares,
    sums_of_squares,
)
from harness_jax.packing import Packing, packing_of

__all__ = ["Engine", "get_engine", "new_ledger", "solve_block"]


class Engine(NamedTuple):
    """Who takes the steps.

    Arguments:
        solve: Solves without a gradient; the signature of `harness_jax.solve.solve`.
        solve_checkpoint: Solves, differentiable through the steps; the signature of
            `harness_jax.backprop.solve_checkpoint`.
        solve_direct: Likewise.
    """

    solve: Callable[..., tuple[Tree, Stats]]
    solve_checkpoint: Callable[..., tuple[Tree, Stats]]
    solve_direct: Callable[..., tuple[Tree, Stats]]


def get_engine(name: EngineName) -> Engine:
    """`native` is the production engine; `library`, diffrax, takes the same steps in more time."""
    if name == "library":
        from harness_jax import diffrax_engine as library  # only if wanted: it takes half a second

        return Engine(library.solve, library.solve_checkpoint, library.solve_direct)
    return Engine(solve.solve, backprop.solve_checkpoint, backprop.solve_direct)


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
    if isinstance(solver, LibrarySolver):
        engine = get_engine("library")
    if mode == "adjoint":
        (z, q), stats = _solve_adjoint(
            engine, field, (z, q), inputs, fixed, solver, ledger, h0, backward_h0
        )
    else:
        solves = {"checkpoint": engine.solve_checkpoint, "direct": engine.solve_direct}
        solve = engine.solve if mode is None else solves[mode]
        problem = Problem(_rates(field), (z, q), inputs, fixed, state_squares, h0)
        (z, q), stats = solve(problem, solver)
    return z, q, stats


def _rates(field: Field) -> Rates:
    """The field over states (z, q). Jitted because a solve evaluates it in many places: so it is
    traced and linearised once.
    """
    return jax.jit(lambda s, z, inputs, fixed: field(join(inputs, fixed), s, z), inline=True)


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
        problem = Problem(_rates(field), y0, inputs, fixed, state_squares, h0)
        return engine.solve(problem, solver)

    def forward(y0: Tree, inputs: Inputs, fixed: Inputs, *extras: Tree) -> tuple[Tree, Tree]:
        (z, q), stats = run(y0, inputs, fixed, *extras)
        _, _, h0 = extras
        if h0 is None:
            h0 = jnp.zeros_like(stats.first_step)
        h0 = jnp.where(h0 == 0, stats.first_step, h0)
        return ((z, q), stats), ((z, q[:1]), h0, inputs, fixed)

    def backward(saved: Tree, cotangents: Tree) -> tuple[Tree, ...]:
        (z, a), h0, inputs, fixed = saved
        (a_z, a_q), _ = cotangents
        packing = packing_of(inputs)
        rows = packing.pack(jax.tree.map(jnp.zeros_like, inputs))
        problem = Problem(
            _adjoint_rates(field, packing),
            ((z, a_z), (a, a_q[:1], rows)),
            inputs,
            (fixed, a_q),
            partial(_adjoint_squares, packing),
            h0,
        )
        ((_, a_z), (*_, rows)), stats = engine.solve(problem, solver, rule=False)
        gradient = packing.unpack(rows)
        entries = [stats.evaluations, stats.failure, stats.largest]
        dtype = new_ledger(1).dtype
        row = jnp.stack([entry.astype(dtype) for entry in entries])
        return (a_z, a_q), gradient, None, row, None, None

    run.defvjp(forward, backward)
    return run(y0, inputs, fixed, *extras)


def _adjoint_rates(field: Field, packing: Packing) -> Rates:
    """The adjoint ODE over u = 1 - s; its state is ((z, a_z), (a, a_a, adjoints of inputs))."""

    def augmented(u: jax.Array, state: Tree, inputs: Inputs, rest: Tree) -> tuple[Tree, Tree]:
        fixed, a_q = rest
        z, a_z = state
        (dz, dq), vjp = jax.vjp(lambda z, inputs: field(join(inputs, fixed), 1 - u, z), z, inputs)
        vjp_z, vjp_inputs = vjp((a_z, a_q))
        rates = -dq[:1], jnp.zeros_like(a_q[:1]), packing.pack(vjp_inputs)
        return (-dz, vjp_z), rates

    return augmented


def _adjoint_squares(packing: Packing, y: Tree) -> tuple[jax.Array, Sequence[int]]:
    """The error norm sees z, a, a_z, a_a and the adjoint of each input."""
    (z, a_z), (a, a_a, rows) = y
    leaves = [z, a_z, a, a_a]
    sums = jnp.concatenate([sums_of_squares(leaves), packing.squares(rows)])
    return sums, [*(leaf.size for leaf in leaves), *packing.sizes]
