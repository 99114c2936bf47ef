"""Evaluations of a field and their vector-Jacobian products: all that solves and gradients need.

The state of a solve is detached throughout; a gradient is put together from the products of single
evaluations, so no graph ever spans two of them.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness_torch.solve.problem import Field, Inputs, Rates, time_like

__all__ = ["Eager", "Tape", "TapedField", "Wanted"]

Tape = Any
"""What an evaluation keeps for its vector-Jacobian product."""


@dataclass(frozen=True)
class Wanted:
    """What of a field's inputs gets a gradient.

    Arguments:
        arrays: Names of the arrays.
        T: Whether the end time does; it comes last.
    """

    arrays: tuple[str, ...] = ()
    T: bool = False

    def of(self, inputs: Inputs) -> list[Tensor]:
        """Takes those out of the inputs."""
        arrays = [inputs.arrays[name] for name in self.arrays]
        return [*arrays, inputs.T] if self.T else arrays

    def put(self, inputs: Inputs, values: Sequence[Tensor]) -> Inputs:
        """The inputs with these values in their place."""
        arrays = {**inputs.arrays, **dict(zip(self.arrays, values, strict=False))}
        return inputs._replace(arrays=arrays, T=values[-1] if self.T else inputs.T)


class TapedField(abc.ABC):
    """A field with its inputs, whose evaluations can be kept on a tape and differentiated."""

    @abc.abstractmethod
    def value(self, s: float, u: Tensor) -> Rates:
        """The rates at (s, u)."""

    @abc.abstractmethod
    def taped(self, s: float, u: Tensor) -> tuple[Rates, Tape]:
        """The rates, and what `vjp` needs of this evaluation."""

    @abc.abstractmethod
    def vjp(
        self, tape: Tape, a_du: Tensor, a_dq: Tensor, sums: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """(a_du, a_dq)^T d(du, dq)/d(u, wanted inputs): the part of u, and the sums with the
        other parts added to them; the sums given may be overwritten.
        """


class Eager(TapedField):
    """Runs the field operation by operation.

    Arguments:
        field: The field.
        inputs: Its inputs.
        wanted: What gets a gradient; None if nothing does.
    """

    def __init__(self, field: Field, inputs: Any, wanted: Wanted | None) -> None:  # noqa: ANN401
        self._leaves: list[Tensor] = []
        if wanted is None:
            with torch.no_grad():
                self._bound = field.bind(inputs)
        else:
            self._leaves = [x.detach().requires_grad_() for x in wanted.of(inputs)]
            with torch.enable_grad():
                self._bound = field.bind(wanted.put(inputs, self._leaves))

    @torch.no_grad()
    def value(self, s: float, u: Tensor) -> Rates:
        """See `TapedField`."""
        return self._bound(time_like(s, u), u)

    def taped(self, s: float, u: Tensor) -> tuple[Rates, Tape]:
        """See `TapedField`."""
        u = u.detach().requires_grad_()
        with torch.enable_grad():
            du, dq = self._bound(time_like(s, u), u)
        return (du.detach(), dq.detach()), (u, du, dq)

    def vjp(
        self, tape: Tape, a_du: Tensor, a_dq: Tensor, sums: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """See `TapedField`."""
        u, *rates = tape
        # The evaluations share the graph of what depends on the inputs alone: it must survive.
        a_u, *cotangents = torch.autograd.grad(
            rates,
            (u, *self._leaves),
            (a_du, a_dq),
            retain_graph=True,
            materialize_grads=True,
        )
        if cotangents:
            torch._foreach_add_(sums, cotangents)
        return a_u, sums
