"""zuko and torchdyn as published, on the same net, data, probe and tolerances.

Equal tolerances are not equal work here: zuko holds the largest error of any element below the
tolerance where the others take a root mean square, and integrates a hundredth of the trace, so the
trace counts for less in it; torchdyn takes one RMS over z and the log-density together.
"""

from __future__ import annotations

from unittest import mock

import torch
from plain_net import BlockSolve, ConcatSquashNet
from torch import Tensor, nn

__all__ = ["PEERS"]


def zuko(net: ConcatSquashNet, eps: Tensor, tolerance: float) -> BlockSolve:
    """Zuko's FFJORD transform, gradients by its checkpoint adjoint."""
    from zuko.transforms import FreeFormJacobianTransform

    def solve(z: Tensor) -> tuple[Tensor, Tensor]:
        transform = FreeFormJacobianTransform(
            net, 0.0, 1.0, phi=net.parameters(), atol=tolerance, rtol=tolerance, exact=False
        )
        # It draws its probe with randn_like; the comparison needs ours.
        with mock.patch.object(torch, "randn_like", return_value=eps):
            end, ladj = transform.call_and_ladj(z)
        return end, ladj

    return solve


class _TorchdynNet(nn.Module):
    """torchdyn calls a net without the time, and leaves the time in the attribute `t`."""

    def __init__(self, net: ConcatSquashNet) -> None:
        super().__init__()
        self.net = net
        self.t = torch.zeros(())

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.net(self.t, z)
        return out


class _Probe:
    """The law of a probe that always gives this one."""

    def __init__(self, eps: Tensor) -> None:
        self.eps = eps

    def sample(self, _: tuple[int, ...]) -> Tensor:
        return self.eps


def torchdyn(net: ConcatSquashNet, eps: Tensor, tolerance: float) -> BlockSolve:
    """Torchdyn's CNF under its dopri5, gradients by backpropagation through the solver."""
    from torchdyn.core import NeuralODE
    from torchdyn.models import CNF, hutch_trace

    flow = NeuralODE(
        CNF(_TorchdynNet(net), hutch_trace, _Probe(eps)),
        solver="dopri5",
        atol=tolerance,
        rtol=tolerance,
        sensitivity="autograd",
        return_t_eval=False,
    )
    times = torch.tensor([0.0, 1.0], dtype=eps.dtype)

    def solve(z: Tensor) -> tuple[Tensor, Tensor]:
        start = torch.cat([torch.zeros(len(z), 1, dtype=z.dtype), z], 1)
        end = flow(start, times)[-1]
        return end[:, 1:], -end[:, 0]

    return solve


PEERS = {"torchdyn": torchdyn, "zuko": zuko}
