"""The adjoint ODE, FFJORD's way to the gradient.

Chen et al., Neural Ordinary Differential Equations, 2018, https://arxiv.org/abs/1806.07366,
algorithm 1; solved backwards from s = 1 to 0 under the solver of the forward solve:
    state      z, a recomputed; their adjoints a_z, a_a; an adjoint for each array that is trained,
               and a_T if the end time is
    rates      dz/ds = T f;  d a_z/ds = -(a_z, a_q)^T d(T f, dq/ds)/dz; of arrays and T with those
               in the place of z
    error norm over z, a, a_z, a_a, every array's adjoint and a_T: the largest RMS (`mixed`), or
               one RMS over all of their entries (`rms_all`). Regularizer integrals and their
               adjoints (constants) are no part of it, nor in the seminorm the adjoints of arrays
               and T, integrals on which nothing depends (P. Kidger, R. Chen, T. Lyons, "Hey,
               that's not an ODE": faster ODE adjoints via seminorms, 2021,
               https://arxiv.org/abs/2009.09457).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from harness_torch.solve.problem import BoundField, Field, Inputs, Rates
from harness_torch.solve.tape import Wanted

__all__ = ["AdjointField", "AdjointInputs", "AdjointLeaves"]


class AdjointInputs(NamedTuple):
    """Inputs of the adjoint ODE: those of the field, and the adjoint of q, which is constant along
    the path; [1 + regularizers, batch].
    """

    inputs: Inputs
    a_q: Tensor


@dataclass(frozen=True)
class AdjointField(Field):
    """The adjoint ODE over its own time 1 - s, from 0 to 1: u = (z, a_z) stacked, q = (a, a_a,
    adjoints of what is trained) flat.

    Arguments:
        field: The block's field.
        wanted: What gets a gradient.
        means: The batch means of the regularizers' integrals follow a_a in q: the error norm is to
            see them.
    """

    batch_axis: ClassVar[int] = 1

    field: Field
    wanted: Wanted
    means: bool = False

    def bind(self, inputs: AdjointInputs) -> BoundField:
        """See `Field.bind`."""
        leaves = [x.detach().requires_grad_() for x in self.wanted.of(inputs.inputs)]
        with torch.enable_grad():
            bound = self.field.bind(self.wanted.put(inputs.inputs, leaves))

        def adjoint_field(elapsed: Tensor, u: Tensor) -> Rates:
            z, a_z = u.detach().unbind()
            z.requires_grad_()
            with torch.enable_grad():
                dz, dq = bound(1 - elapsed, z)
            # Evaluations share the graph of what does not depend on the time, so it must survive;
            # the rest is freed with dz and dq.
            vjp_z, *vjp = torch.autograd.grad(
                (dz, dq),
                (z, *leaves),
                (a_z, inputs.a_q),
                retain_graph=True,
                materialize_grads=True,
            )
            da = dq[0].detach()
            means = [-dq[1:].detach().mean(dim=1)] if self.means else []
            flat = (x.reshape(-1) for x in vjp)
            rates = torch.cat([-da, torch.zeros_like(da), *means, *flat])
            return torch.stack([-dz.detach(), vjp_z]), rates

        return adjoint_field


@dataclass(frozen=True)
class AdjointLeaves:
    """What the error norm of an adjoint solve sees: z, a_z, a, a_a, the means of regularizers if
    asked for, and, unless it is a seminorm, the adjoint of each input.

    Arguments:
        sizes: Entries of each part of q that it sees.
    """

    sizes: tuple[int, ...]

    def seen(self, u: Tensor, q: Tensor) -> Rates:
        """See `harness_torch.solve.problem.Leaves`."""
        return u, q[: sum(self.sizes)]

    def __call__(self, u: Tensor, q: Tensor) -> Sequence[Tensor]:
        """See `harness_torch.solve.problem.Leaves`."""
        return *u.unbind(), *torch.split(q[: sum(self.sizes)], list(self.sizes))
