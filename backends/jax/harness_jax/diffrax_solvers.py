"""Solvers of diffrax: those built from our tableaux, and its own by name."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from harness.solvers import TABLEAUX, Tableau
from harness.trial import LibrarySolver

__all__ = ["evaluations_of", "library_solver", "tabulated"]


@cache
def tabulated(name: str) -> diffrax.AbstractSolver[Any]:
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


def evaluations_of(
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
