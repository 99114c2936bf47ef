"""torchflows' ContinuousBijection: with its default solver, and with dopri5.

Its free-form flows have an estimated trace only; the exact one is a TimeDerivative of ours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torchflows.bijections.continuous.base import ContinuousBijection, HutchinsonTimeDerivative
from torchflows.bijections.continuous.time_derivative import TimeDerivative


class Exact(TimeDerivative):  # type: ignore[misc]
    """The trace by autograd."""

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field

    def prepare_initial_state(self, z0: Any) -> Any:
        """A log determinant of zero."""
        return z0, torch.zeros_like(z0.flatten(1)[:, 0])

    def step(self, t: Any, x: Any, *aux: Any) -> Any:
        """The velocity and its divergence."""
        dx = self.field(t, x)
        flat = dx.flatten(1)
        columns = (
            torch.autograd.grad(flat[:, i].sum(), x, create_graph=True)[0].flatten(1)[:, i]
            for i in range(flat.shape[1])
        )
        return dx, sum(columns)


def build(field: Any, dim: int, exact: bool = True, **settings: Any) -> Any:
    """`forward` takes data to noise, `inverse` noise to data."""
    derivative = Exact(field) if exact else HutchinsonTimeDerivative(field, reuse_noise=False)
    flow = ContinuousBijection(field.shape, derivative, end_time=field.end_time, **settings)

    def base(z: Any) -> Any:
        return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def log_prob(x: Any) -> Any:
        z, change = flow.forward(x)
        return base(z) + change

    def sample(z: Any) -> Any:
        x, change = flow.inverse(z)
        return x, base(z) - change

    return log_prob, sample


def build_estimated(field: Any, dim: int) -> Any:
    """Its estimate, with Gaussian probes at each evaluation."""
    return build(field, dim, exact=False)


def build_dopri5(field: Any, dim: int) -> Any:
    """An adaptive solver."""
    return build(field, dim, solver="dopri5", atol=1e-7, rtol=1e-6)
