"""FFJORD as its released code computes it, written anew: the yardstick of the benchmarks.

torchdiffeq's `odeint_adjoint` around a vector field whose divergence is one vector-Jacobian
product with `create_graph=True`, or D of them if it is exact, so that training differentiates it a
second time (Grathwohl et al., ICLR 2019, algorithm 1).
"""

from __future__ import annotations

import torch
from plain_net import BlockSolve, ConcatSquashNet
from torch import Tensor, nn
from torchdiffeq import odeint_adjoint

__all__ = ["original"]


class _Field(nn.Module):
    """The augmented dynamics of one block."""

    def __init__(self, net: ConcatSquashNet, eps: Tensor | None) -> None:
        super().__init__()
        self.net, self.eps = net, eps

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = state[0].requires_grad_(True)
            dz = self.net(t.requires_grad_(True), z)
            if self.eps is None:
                rows = [self._row(dz, z, i)[:, i] for i in range(z.shape[1])]
                divergence = torch.stack(rows).sum(0)
            else:
                eps_jacobian = torch.autograd.grad(dz, z, self.eps, create_graph=True)[0]
                divergence = (eps_jacobian * self.eps).sum(1)
        return dz, -divergence

    def _row(self, dz: Tensor, z: Tensor, i: int) -> Tensor:
        """Row i of the Jacobian of each example."""
        return torch.autograd.grad(dz[:, i].sum(), z, create_graph=True)[0]


def original(net: ConcatSquashNet, eps: Tensor | None, tolerance: float) -> BlockSolve:
    """The original approach for one block."""
    field = _Field(net, eps)
    times = torch.tensor([0.0, net.end_time])

    def solve(z: Tensor) -> tuple[Tensor, Tensor]:
        times_like = times.to(z)
        start = (z, torch.zeros(len(z), dtype=z.dtype))
        tolerances = {"rtol": tolerance, "atol": tolerance}
        zs, minus = odeint_adjoint(field, start, times_like, method="dopri5", **tolerances)
        return zs[-1], -minus[-1]

    return solve
