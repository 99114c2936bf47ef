"""The net of a workload in plain torch, as the original approach and the peers are given it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from workloads import Workload

from harness.architecture.arrays import initial_arrays

__all__ = ["BlockSolve", "ConcatSquashNet", "block_nets", "nfe_of"]

BlockSolve = Callable[[Tensor], tuple[Tensor, Tensor]]
"""z [batch, D] at the start of a block -> z at its end, and the integral of the divergence."""

_NONLINEARITIES: dict[str, Any] = {"tanh": torch.tanh, "softplus": nn.functional.softplus}


class _ConcatSquash(nn.Module):
    """(W h + b) * sigmoid(gate(t)) + bias(t), gate and bias as linear maps of one input."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        width_out, width_in = arrays["weight"].shape
        self.linear = nn.Linear(width_in, width_out)
        self.gate = nn.Linear(1, width_out)
        self.time_bias = nn.Linear(1, width_out, bias=False)
        for parameter, value in (
            (self.linear.weight, arrays["weight"]),
            (self.linear.bias, arrays["bias"]),
            (self.gate.weight, arrays["gate_weight"][:, None]),
            (self.gate.bias, arrays["gate_bias"]),
            (self.time_bias.weight, arrays["time_weight"][:, None]),
        ):
            parameter.data = torch.tensor(value)

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        time = t.view(1, 1)
        out: Tensor = self.linear(h) * torch.sigmoid(self.gate(time)) + self.time_bias(time)
        return out


class ConcatSquashNet(nn.Module):
    """dz/dt of one block, which counts what is asked of it.

    `evaluations` grows with each call, `vjps` with each backpropagation through a call made
    before `in_backward` was set: what an adjoint solve evaluates itself is no such call. `exact`
    and `end_time` say how it is integrated.
    """

    def __init__(self, layers: list[dict[str, np.ndarray]], workload: Workload) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_ConcatSquash(arrays) for arrays in layers)
        self.phi = _NONLINEARITIES[workload.model.nonlinearity]
        self.exact = workload.trace == "exact"
        self.end_time = workload.model.end_time.value
        self.reset()

    def reset(self) -> None:
        self.evaluations = self.vjps = 0
        self.in_backward = False

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        self.evaluations += 1
        last = len(self.layers) - 1
        for k, layer in enumerate(self.layers):
            h = layer(t, h)
            if k < last:
                h = self.phi(h)
        if h.requires_grad and not self.in_backward:
            h.register_hook(self._differentiated)  # type: ignore[no-untyped-call]
        return h

    def _differentiated(self, _: Tensor) -> None:
        self.vjps += self.in_backward


def block_nets(workload: Workload, precision: Any = "float32") -> list[ConcatSquashNet]:  # noqa: ANN401
    """Returns the nets of all blocks with the initial arrays of the harness."""
    trial = workload.trial("torch", "adjoint", precision)
    arrays = initial_arrays(trial, workload.data)
    nets = []
    for block in range(workload.model.blocks):
        prefixes = [f"block{block}/layer{k}/" for k in range(len(workload.model.hidden) + 1)]
        layers = [
            {k.removeprefix(p): v for k, v in arrays.items() if k.startswith(p)} for p in prefixes
        ]
        nets.append(ConcatSquashNet(layers, workload))
    return nets


def nfe_of(nets: list[ConcatSquashNet], forward: int) -> dict[str, int]:
    """Counts of a training step, of which `forward` evaluations were made before backward()."""
    total = sum(net.evaluations for net in nets)
    vjp = sum(net.vjps for net in nets)
    return {"forward": forward, "backward": total - forward, "vjp": vjp, "recompute": 0}
