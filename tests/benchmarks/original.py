"""FFJORD as its released code computes it, written anew: the yardstick of the benchmarks.

torchdiffeq's `odeint_adjoint` around a vector field whose divergence is one vector-Jacobian
product with `create_graph=True`, so that training differentiates it a second time (Grathwohl et
al., ICLR 2019, algorithm 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchdiffeq import odeint_adjoint
from workloads import Workload

from harness.architecture import initial_arrays
from harness.interface import Batch

__all__ = ["OriginalFlow"]

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


class _Field(nn.Module):
    """The augmented dynamics of one block."""

    def __init__(self, layers: list[dict[str, np.ndarray]], nonlinearity: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_ConcatSquash(arrays) for arrays in layers)
        self.phi = _NONLINEARITIES[nonlinearity]
        self.eps = torch.empty(0)
        self.evaluations = 0

    def net(self, t: Tensor, h: Tensor) -> Tensor:
        last = len(self.layers) - 1
        for k, layer in enumerate(self.layers):
            h = layer(t, h)
            if k < last:
                h = self.phi(h)
        return h

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        self.evaluations += 1
        with torch.enable_grad():
            z = state[0].requires_grad_(True)
            dz = self.net(t.requires_grad_(True), z)
            eps_jacobian = torch.autograd.grad(dz, z, self.eps, create_graph=True)[0]
            divergence = (eps_jacobian * self.eps).sum(1)
        return dz, -divergence


class OriginalFlow:
    """Stacked blocks with Adam; `step` is one training step."""

    def __init__(self, workload: Workload, precision: Any = "float32") -> None:  # noqa: ANN401
        trial = workload.trial("torch", "adjoint", precision)
        arrays = initial_arrays(trial, (workload.dim,))
        self.tolerance = workload.tolerance
        self.fields = []
        for block in range(workload.blocks):
            layers = [
                {
                    name.removeprefix(f"block{block}/layer{k}/"): value
                    for name, value in arrays.items()
                    if name.startswith(f"block{block}/layer{k}/")
                }
                for k in range(len(workload.hidden) + 1)
            ]
            self.fields.append(_Field(layers, workload.nonlinearity))
        parameters = [p for field in self.fields for p in field.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=0.0)

    def log_prob(self, batch: Batch) -> Tensor:
        """Log-density of each row, nats; [batch]."""
        z = torch.tensor(batch.x)
        a = torch.zeros(len(z), dtype=z.dtype)
        for block, field in enumerate(self.fields):
            field.eps = torch.tensor(batch.noise[f"probe/{block}"])
            times = torch.tensor([0.0, 1.0], dtype=z.dtype)
            tolerances = {"rtol": self.tolerance, "atol": self.tolerance}
            states = odeint_adjoint(field, (z, a), times, method="dopri5", **tolerances)
            z, a = states[0][-1], states[1][-1]
        log_base = -0.5 * (z**2 + np.log(2 * np.pi)).sum(1)
        log_prob: Tensor = log_base - a
        return log_prob

    def step(self, batch: Batch) -> tuple[float, int, int]:
        """Takes a training step; returns loss and forward and backward evaluations."""
        counts = []
        for field in self.fields:
            field.evaluations = 0
        self.optimizer.zero_grad()
        loss = -self.log_prob(batch).mean()
        counts.append(sum(field.evaluations for field in self.fields))
        loss.backward()  # type: ignore[no-untyped-call]
        counts.append(sum(field.evaluations for field in self.fields) - counts[0])
        self.optimizer.step()
        return loss.item(), counts[0], counts[1]
