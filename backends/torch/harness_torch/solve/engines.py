"""Who takes the steps of a solve, and how a block is solved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from harness.trial import EngineName, GradientName, LibrarySolver, SolverSpec
from harness_torch.solve.counts import Solution
from harness_torch.solve.native_engine import Native
from harness_torch.solve.problem import InitialValue
from harness_torch.solve.tape import TapedField, Wanted

__all__ = ["Engine", "FirstSteps", "How", "get_engine"]


class Engine(Protocol):
    """Who takes the steps."""

    @property
    def compiles(self) -> bool:
        """Whether a first solve takes its time to compile."""

    @property
    def taped_field(self) -> Callable[[InitialValue, Wanted | None], TapedField] | None:
        """Makes what the gradient of a discrete solution differentiates, evaluation by evaluation;
        None if autograd goes through `solve` as it is.
        """

    def solve(self, problem: InitialValue, solver: SolverSpec) -> Solution:
        """Solves.

        Arguments:
            problem: What is integrated.
            solver: Method and tolerances.
        """


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
    """What a block's solves start with.

    Arguments:
        forward: First step in units of the block's s; None for the solver's rule.
        backward: That of the adjoint solve; None for that of the forward solve.
    """

    forward: float | None = None
    backward: float | None = None

    def within(self, span: float) -> FirstSteps:
        """In units of a piece of the block's s of this length."""
        return FirstSteps(*(None if step is None else step / span for step in self))


def get_engine(name: EngineName) -> Engine:
    """`native` is the production engine; `library`, torchdiffeq, takes the same steps in more
    time.
    """
    if name == "library":
        from harness_torch.solve import library_engine  # most trials never need torchdiffeq

        return library_engine.Library()
    return Native()
