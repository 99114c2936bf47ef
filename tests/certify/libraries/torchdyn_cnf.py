"""The CNF of torchdyn in its NeuralODE, as its tutorials write it.

The examples of torchcfm, which has no log p of its own, solve with it too.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import nn
from torchdyn.core import NeuralODE
from torchdyn.models import CNF, autograd_trace, hutch_trace


class Rademacher:
    """Probes for torchdyn: it asks for rows of them once a solve."""

    def __init__(self, dim: int, dtype: Any) -> None:
        self.dim, self.dtype = dim, dtype

    def sample(self, rows: tuple[int]) -> Any:
        """Signs, (rows, dim)."""
        return torch.randint(0, 2, (*rows, self.dim)).to(self.dtype) * 2 - 1


class Timed(nn.Module):
    """Hands the field the time: torchdyn sets `t` of every module that has one."""

    def __init__(self, field: Any) -> None:
        super().__init__()
        self.field, self.t = field, None

    def forward(self, x: Any) -> Any:
        """The velocity of flat rows."""
        return self.field(self.t, x.unflatten(1, self.field.shape)).flatten(1)


def build(field: Any, dim: int, estimate: bool = False) -> Any:
    """Column 0 carries the negative log determinant."""
    cnf = CNF(
        Timed(field),
        trace_estimator=hutch_trace if estimate else autograd_trace,
        noise_dist=Rademacher(dim, field.dtype) if estimate else None,
    )
    with contextlib.redirect_stdout(None):  # it announces that the time is handed over as below
        model = NeuralODE(cnf, solver="dopri5", atol=1e-7, rtol=1e-6)

    def solve(x: Any, start: float, end: float) -> tuple[Any, Any]:
        rows = torch.cat([torch.zeros_like(x[:, :1]), x], dim=1)
        _, path = model(rows, torch.tensor([start, end], dtype=x.dtype))
        return path[-1][:, 1:], path[-1][:, 0]

    def base(z: Any) -> Any:
        return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum(1)

    def log_prob(x: Any) -> Any:
        z, change = solve(x.flatten(1), field.end_time, 0.0)
        return base(z) - change

    def sample(z: Any) -> Any:
        x, change = solve(z.flatten(1), 0.0, field.end_time)
        return x.reshape(z.shape), base(z.flatten(1)) + change

    return log_prob, sample


def build_estimated(field: Any, dim: int) -> Any:
    """The same with its hutch_trace."""
    return build(field, dim, estimate=True)
