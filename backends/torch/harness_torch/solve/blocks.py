"""One block of a flow: a solve, or several that follow one another, and what they took."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from harness_torch.solve.counts import Counts
from harness_torch.solve.engines import FirstSteps, How
from harness_torch.solve.gradients import solve_block
from harness_torch.solve.problem import InitialValue

__all__ = ["BlockCounts", "first_failure", "solve_pieces"]


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


def first_failure(blocks: Iterable[BlockCounts]) -> str | None:
    """Why the first solve that stopped early did so."""
    return next((counts.failure for counts in blocks if counts.failure), None)


def solve_pieces(
    how: How,
    problem: InitialValue,
    first: FirstSteps,
    counts: BlockCounts,
    times: Sequence[float] = (),
) -> tuple[list[Tensor], Tensor]:
    """Solves one block from data towards base.

    Each piece after the first starts with the last step size that the piece before proposed.

    Arguments:
        how: How it is solved.
        problem: What is integrated. Without integrals the error norm is over z alone.
        first: First steps.
        counts: Receives the counts.
        times: Times within (0, 1) on which solves end, increasing.

    Returns:
        The states at 0, `times` and 1, up to the end of a solve that failed, and q there.
    """
    states, T = [problem.u], problem.inputs.T
    for start, end in itertools.pairwise((0.0, *times, 1.0)):
        span = end - start
        inputs = problem.inputs._replace(start=T.new_full((), start), span=T.new_full((), span))
        count = counts.add(span)
        z, q = solve_block(how, problem._replace(inputs=inputs), first.within(span), count)
        states.append(z)
        problem = problem._replace(u=z, q=q)
        if count.failure:
            break
        first = first._replace(forward=count.proposed * span)
    return states, problem.q
