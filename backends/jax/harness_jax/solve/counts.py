"""What a solve took, and how it can fail."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from harness.solvers import TABLEAUX
from harness_jax.solve.problem import NativeSolver

__all__ = [
    "FAILURES",
    "MAX_STEPS",
    "NON_FINITE",
    "NOT_CONVERGED",
    "UNDERFLOW",
    "Stats",
    "evaluations",
]


FAILURES = (None, "max_steps", "non-finite", "underflow", "not converged")
"""Reasons by code, as `StepReport.failure` gives them."""


MAX_STEPS, NON_FINITE, UNDERFLOW, NOT_CONVERGED = 1, 2, 3, 4


class Stats(NamedTuple):
    """What a solve did, as scalars.

    Arguments:
        accepted: Accepted steps, int32.
        rejected: Rejected steps, int32.
        evaluations: Evaluations of the field, rejected steps and the heuristic included, int32.
        first_step: Size of the first attempted step.
        proposed: Size of the last step before it was cut to land on the end.
        largest: Size of the largest accepted step; 0 if there is none.
        failure: Index into `FAILURES`, int32.
        vjp: Evaluations that the backward pass differentiates, modes `direct` and `checkpoint`.
        recompute: Evaluations that it does again.
    """

    accepted: jax.Array
    rejected: jax.Array
    evaluations: jax.Array
    first_step: jax.Array
    proposed: jax.Array
    largest: jax.Array
    failure: jax.Array
    vjp: jax.Array
    recompute: jax.Array


def evaluations(
    solver: NativeSolver, attempted: jax.Array, heuristic: bool | jax.Array
) -> jax.Array:
    """Evaluations of the field in so many attempted steps."""
    # The tableau's count is linear in the steps, so it holds for traced numbers, too.
    steps: Any = attempted
    counted: jax.Array = jnp.asarray(TABLEAUX[solver.name].evaluations(steps, heuristic=False))
    return counted + jnp.asarray(heuristic, counted.dtype)
