"""What a solve took, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness_torch.solve.problem import BoundField, Field, Inputs, Rates
from harness_torch.solve.step import Step

__all__ = ["Counts", "Solution", "Watched"]


@dataclass
class Counts:
    """What one solve took; what its backward pass took arrives with that.

    Arguments:
        forward: Evaluations of the forward solve.
        accepted: Its accepted steps.
        rejected: Its rejected steps.
        backward: Evaluations of the adjoint ODE.
        vjp: Evaluations that the backward pass differentiates, modes `direct` and `checkpoint`.
        recompute: Evaluations that the backward pass does again, mode `checkpoint`.
        largest: Largest accepted step of the forward solve, in units of its s.
        largest_backward: Of the adjoint solve.
        proposed: What the controller proposed for the last step, before it was cut to land.
        failure: Why a solve did not finish.
    """

    forward: int = 0
    accepted: int = 0
    rejected: int = 0
    backward: int = 0
    vjp: int = 0
    recompute: int = 0
    largest: float = 0.0
    largest_backward: float = 0.0
    proposed: float = 0.0
    failure: str | None = None

    def add_forward(self, solution: Solution) -> None:
        """Records the forward solve."""
        self.forward = solution.evaluations
        self.accepted = solution.accepted
        self.rejected = solution.rejected
        self.largest = solution.largest_step
        self.proposed = solution.proposed
        self.failure = solution.failure


@dataclass(frozen=True)
class Watched(Field):
    """A field whose evaluations are counted when they are differentiated."""

    field: Field
    counts: Counts

    def bind(self, inputs: Inputs) -> BoundField:
        """See `Field.bind`."""
        bound = self.field.bind(inputs)

        def differentiated(_: Tensor) -> None:
            self.counts.vjp += 1

        def watched_field(s: Tensor, u: Tensor) -> Rates:
            du, dq = bound(s, u)
            if du.requires_grad:
                du.register_hook(differentiated)  # type: ignore[no-untyped-call]
            return du, dq

        return watched_field


@dataclass(frozen=True)
class Solution:
    """The end of a solve and what it took.

    Arguments:
        u: State at s = 1.
        q: Integrals at s = 1.
        evaluations: Evaluations of the field, rejected steps and the heuristic included.
        accepted: Accepted steps.
        rejected: Rejected steps.
        first_step: Size of the first attempted step; None if only the library knows.
        largest_step: The largest accepted step; 0 if there was none.
        proposed: What the controller proposed for the last step, before it was cut to land.
        failure: None, or `max_steps`, `non-finite` or `underflow`; u and q are then where the
            solve stopped.
        steps: The accepted steps, if they were recorded.
    """

    u: Tensor
    q: Tensor
    evaluations: int
    accepted: int
    rejected: int
    first_step: float | None
    largest_step: float
    proposed: float
    failure: str | None = None
    steps: list[Step] | None = None
