"""Who takes the steps of a solve, and how a block is solved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax

from harness.trial import EngineName, GradientName, LibrarySolver, SolverSpec
from harness_jax.solve import backprop, native_engine
from harness_jax.solve.counts import Stats
from harness_jax.solve.problem import Tree

__all__ = ["Engine", "FirstSteps", "How", "get_engine"]


class Engine(NamedTuple):
    """Who takes the steps.

    Arguments:
        solve: Solves without a gradient; the signature of `harness_jax.solve.native_engine.solve`.
        solve_checkpoint: Solves, differentiable through the steps; the signature of
            `harness_jax.solve.backprop.solve_checkpoint`.
        solve_direct: The same with evaluations kept.
    """

    solve: Callable[..., tuple[Tree, Stats]]
    solve_checkpoint: Callable[..., tuple[Tree, Stats]]
    solve_direct: Callable[..., tuple[Tree, Stats]]


@dataclass(frozen=True)
class How:
    """How blocks are solved.

    Arguments:
        engine: Who takes the steps; a solver of a library runs in its library all the same.
        solver: Method and tolerances.
        mode: Gradient mode; None if no gradient is wanted.
    """

    engine: Engine
    solver: SolverSpec
    mode: GradientName | None = None

    @property
    def stepper(self) -> Engine:
        """Whoever can take the solver's steps."""
        return get_engine("library") if isinstance(self.solver, LibrarySolver) else self.engine


class FirstSteps(NamedTuple):
    """What a block's solves start with, and where the adjoint solves report.

    Arguments:
        forward: First step in units of the block's s; 0 or None for the solver's rule.
        backward: That of the adjoint solve; 0 or None for that of the forward solve.
        ledger: Rows of `adjoint.new_ledger`, one a solve, for mode `adjoint`.
    """

    forward: jax.Array | None = None
    backward: jax.Array | None = None
    ledger: jax.Array | None = None

    def within(self, span: jax.Array) -> FirstSteps:
        """In units of a piece of the block's s of this length."""
        forward, backward = (None if step is None else step / span for step in self[:2])
        return self._replace(forward=forward, backward=backward)


def get_engine(name: EngineName) -> Engine:
    """`native` is the production engine; `library`, diffrax, takes the same steps in more time."""
    if name == "library":
        from harness_jax.solve import library_engine  # most trials never need diffrax

        return Engine(
            library_engine.solve, library_engine.solve_checkpoint, library_engine.solve_direct
        )
    return Engine(native_engine.solve, backprop.solve_checkpoint, backprop.solve_direct)
