"""One block of a flow: a solve, or several that follow one another, and what they took."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from harness.trial import GradientName, SolverSpec
from harness_torch.control import Field, Inputs
from harness_torch.counts import Counts
from harness_torch.gradients import solve_block
from harness_torch.solve import Solve

__all__ = ["BlockCounts", "How", "solve_pieces"]


@dataclass(frozen=True)
class How:
    """How a block is solved.

    Arguments:
        engine: Who takes the steps.
        solver: Method and tolerances.
        mode: Gradient mode; None if no gradient is wanted.
        h0: First step in units of the block's s; None for the solver's rule.
        h0_backward: Likewise of the adjoint solve; None for that of the forward solve.
    """

    engine: Solve
    solver: SolverSpec
    mode: GradientName | None
    h0: float | None = None
    h0_backward: float | None = None


@dataclass(frozen=True)
class BlockCounts:
    """What the solves of one block took; those of the backward pass arrive with it.

    Arguments:
        pieces: One entry a solve.
        spans: Length of the piece of s in [0, 1] that each covers.
    """

    pieces: list[Counts] = field(default_factory=list)
    spans: list[float] = field(default_factory=list)

    def add(self, span: float) -> Counts:
        """The counts of one more solve."""
        self.pieces.append(Counts())
        self.spans.append(span)
        return self.pieces[-1]

    def total(self, name: str) -> int:
        """Sum of one count over the solves."""
        return sum(getattr(counts, name) for counts in self.pieces)

    def largest(self, name: str) -> float:
        """The largest of one step size, in units of the block's s; 0 if there is none."""
        steps = zip(self.pieces, self.spans, strict=True)
        return max((getattr(counts, name) * span for counts, span in steps), default=0.0)

    @property
    def failure(self) -> str | None:
        """Why a solve did not finish."""
        return next((counts.failure for counts in self.pieces if counts.failure), None)


def solve_pieces(
    of: Field,
    inputs: Inputs,
    z: Tensor,
    q: Tensor,
    how: How,
    counts: BlockCounts,
    times: Sequence[float] = (),
) -> tuple[list[Tensor], Tensor]:
    """Solves one block from data towards base.

    Each piece after the first starts with the last step size that the piece before proposed.

    Arguments:
        of: The augmented dynamics.
        inputs: What they are a function of.
        z: State, [batch, ...].
        q: Integrals, [1 + regularizers, batch]; without any, [0, batch], the error norm is over
            z alone, and there is no gradient.
        how: How it is solved.
        counts: Receives the counts.
        times: Times within (0, 1) on which solves end, increasing.

    Returns:
        The states at 0, `times` and 1, up to the end of a solve that failed, and q there.
    """
    states, h0 = [z], how.h0
    for start, end in itertools.pairwise((0.0, *times, 1.0)):
        span = end - start
        piece = inputs._replace(
            start=inputs.T.new_full((), start), span=inputs.T.new_full((), span)
        )
        found = counts.add(span)
        first = None if h0 is None else h0 / span
        if len(q):
            back = None if how.h0_backward is None else how.h0_backward / span
            z, q = solve_block(
                of, piece, z, q, how.solver, how.mode, found, how.engine, first, back
            )
        else:
            solution = how.engine(of, piece, z, q, how.solver, _state_alone, first)
            found.add_forward(solution)
            z = solution.u
        states.append(z)
        if found.failure:
            break
        h0 = found.proposed * span
    return states, q


def _state_alone(u: Tensor, q: Tensor) -> Sequence[Tensor]:
    """What the error norm of a solve without integrals sees."""
    return (u,)
