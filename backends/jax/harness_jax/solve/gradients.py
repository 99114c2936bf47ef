"""Gradient modes of one block's solve.

`direct`, `checkpoint` and `symplectic` backpropagate through the solver
(`harness_jax.solve.backprop`): the exact gradient of the discrete solution. `reversible` solves by
pairs of states (`harness_jax.solve.reversible`) and keeps the last. `adjoint` solves the adjoint
ODE backwards (FFJORD's way; Chen et al., Neural Ordinary Differential Equations, 2018,
https://arxiv.org/abs/1806.07366, algorithm 1) at constant memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax

from harness_jax.solve.adjoint import solve_adjoint
from harness_jax.solve.backprop import solve_symplectic
from harness_jax.solve.counts import Stats
from harness_jax.solve.engines import FirstSteps, How
from harness_jax.solve.problem import InitialValue, Tree
from harness_jax.solve.reversible import solve_reversible

__all__ = ["solve_block"]


def solve_block(
    how: How, problem: InitialValue, first: FirstSteps
) -> tuple[jax.Array, jax.Array, Stats]:
    """Solves one block, or a piece of it. Gradients flow to the state, the integrals and the
    inputs.

    Arguments:
        how: Who takes the steps, and the gradient mode.
        problem: What is integrated; its h0 is `first`'s.
        first: First steps, in units of the solve's s, and one row of the ledger.

    Returns:
        z and q at s = 1, and what the solve did.
    """
    engine, problem = how.stepper, problem._replace(h0=first.forward)
    if how.mode == "adjoint":
        (z, q), stats = solve_adjoint(engine, problem, how.solver, first)
    else:
        solves: Mapping[str, Callable[..., tuple[Tree, Stats]]] = {
            "checkpoint": engine.solve_checkpoint,
            "direct": engine.solve_direct,
            "reversible": solve_reversible,
            "symplectic": solve_symplectic,
        }
        solve = engine.solve if how.mode is None else solves[how.mode]
        (z, q), stats = solve(problem, how.solver)
    return z, q, stats
