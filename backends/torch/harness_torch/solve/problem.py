"""What a solve integrates: fields and their inputs."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from harness.trial import AdaptiveSolver, SolverSpec

__all__ = [
    "BoundField",
    "Field",
    "InitialValue",
    "Inputs",
    "Leaves",
    "Rates",
    "Reversed",
    "StateLeaves",
    "leaves_for",
    "time_like",
]


Rates = tuple[Tensor, Tensor]
"""du/ds and dq/ds of a state: `u`, the variables the right-hand side depends on, and `q`,
integrals along their path."""


BoundField = Callable[[Tensor, Tensor], Rates]
"""(s, u) -> (du/ds, dq/ds); s is 0-dimensional, in the state's precision."""


class Inputs(NamedTuple):
    """All tensors that the dynamics of a block depend on, beside time and state.

    Arguments:
        arrays: The block's arrays by portable name without the block, e.g. `layer0/weight`.
        T: End time, 0-dimensional.
        probe: Random directions, fixed within a solve; None if nothing needs them.
        start: Start of the piece of the block that a solve covers, 0-dimensional, in [0, 1].
        span: Length of that piece: s in [0, 1] of the solve is start + span s of the block.
    """

    arrays: Mapping[str, Tensor]
    T: Tensor
    probe: Tensor | None
    start: Tensor
    span: Tensor

    @property
    def length(self) -> Tensor:
        """Length of the solve in the time t of the block."""
        return self.T * self.span


class Field(abc.ABC):
    """A right-hand side as a function of its inputs, (inputs, s, u) -> (du/ds, dq/ds).

    Subclasses are frozen dataclasses of static facts alone: what is compiled for one field serves
    every equal one. `inputs` is a tuple of tensors, for the dynamics of a block `Inputs`.
    """

    batch_axis: ClassVar[int] = 0
    """Axis of u along which the examples lie."""
    rare: ClassVar[bool] = False
    """Evaluated too rarely to be worth compiling."""

    @abc.abstractmethod
    def bind(self, inputs: Any) -> BoundField:  # noqa: ANN401
        """Computes once what depends on the inputs alone; differentiable in them."""

    def __call__(self, inputs: Any, s: Tensor, u: Tensor) -> Rates:  # noqa: ANN401
        """One evaluation."""
        return self.bind(inputs)(s, u)


class Leaves(Protocol):
    """What the error norm sees of a state (u, q)."""

    def seen(self, u: Tensor, q: Tensor) -> Rates:
        """The part that it sees, before it is scaled by the tolerances; linear."""

    def __call__(self, u: Tensor, q: Tensor) -> Sequence[Tensor]:
        """The leaves of that part, or of a state whole."""


def time_like(s: float, u: Tensor) -> Tensor:
    """The time s as fields take it: 0-dimensional, on the device of u. Waits for nothing."""
    return torch.full((), s, dtype=u.dtype, device=u.device)


@dataclass(frozen=True)
class StateLeaves:
    """Of a flow's state the error norm sees z and a, the first row of q if it has any.

    Arguments:
        means: It sees the batch mean of each further row, too, which is what FFJORD's released
            code integrates.
    """

    means: bool = False

    def seen(self, u: Tensor, q: Tensor) -> Rates:
        """See `Leaves`."""
        if not self.means or len(q) < 2:
            return u, q[:1]
        return u, torch.cat([q[0], q[1:].mean(dim=1)])

    def __call__(self, u: Tensor, q: Tensor) -> Sequence[Tensor]:
        """See `Leaves`."""
        if q.dim() > 1:
            return u, *q[:1]
        return u, q[: len(u)], *q[len(u) :]


def leaves_for(solver: SolverSpec) -> StateLeaves:
    """What the solver's error norm sees of a flow's state."""
    return StateLeaves(isinstance(solver, AdaptiveSolver) and solver.regularizers_in_norm)


class InitialValue(NamedTuple):
    """What a solve integrates from s = 0 to 1.

    Arguments:
        field: The right-hand side.
        inputs: What it is a function of; for the dynamics of a block `Inputs`.
        u: Initial state.
        q: Initial integrals; of a flow a in row 0, then one row a regularizer, [rows, batch]. No
            rows without the density.
        leaves: What the error norm sees.
        h0: Replaces the solver's rule for the first step at no cost; None leaves it to the rule.
        length: What s from 0 to 1 is in the time t of the block; the rule works in t.
    """

    field: Field
    inputs: Any
    u: Tensor
    q: Tensor
    leaves: Leaves = StateLeaves()
    h0: float | None = None
    length: Tensor | float = 1.0


@dataclass(frozen=True)
class Reversed(Field):
    """The field that runs from s = 1 to 0, over its own time 0 to 1."""

    rare: ClassVar[bool] = True

    field: Field

    def bind(self, inputs: Any) -> BoundField:  # noqa: ANN401
        """See `Field.bind`."""
        bound = self.field.bind(inputs)

        def reversed_field(s: Tensor, u: Tensor) -> Rates:
            du, dq = bound(1.0 - s, u)
            return -du, -dq

        return reversed_field
