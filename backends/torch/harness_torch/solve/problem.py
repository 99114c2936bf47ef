"""What a solve integrates: fields and their inputs."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "BoundField",
    "Field",
    "InitialValue",
    "Inputs",
    "Leaves",
    "Rates",
    "Reversed",
    "state_leaves",
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


class Field(abc.ABC):
    """A right-hand side as a function of its inputs, (inputs, s, u) -> (du/ds, dq/ds).

    Subclasses are frozen dataclasses of static facts alone: what is compiled for one field serves
    every equal one. `inputs` is a tuple of tensors, for the dynamics of a block `Inputs`.
    """

    rare: ClassVar[bool] = False
    """Evaluated too rarely to be worth compiling."""

    @abc.abstractmethod
    def bind(self, inputs: Any) -> BoundField:  # noqa: ANN401
        """Computes once what depends on the inputs alone; differentiable in them."""

    def __call__(self, inputs: Any, s: Tensor, u: Tensor) -> Rates:  # noqa: ANN401
        """One evaluation."""
        return self.bind(inputs)(s, u)


Leaves = Callable[[Tensor, Tensor], Sequence[Tensor]]
"""(u, q) -> the leaves that the error norm sees."""


def time_like(s: float, u: Tensor) -> Tensor:
    """The time s as fields take it: 0-dimensional, on the device of u. Waits for nothing."""
    return torch.full((), s, dtype=u.dtype, device=u.device)


def state_leaves(u: Tensor, q: Tensor) -> Sequence[Tensor]:
    """Of a flow's state the error norm sees z and a, the first row of q if it has any."""
    return u, *q[:1]


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
    """

    field: Field
    inputs: Any
    u: Tensor
    q: Tensor
    leaves: Leaves = state_leaves
    h0: float | None = None


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
