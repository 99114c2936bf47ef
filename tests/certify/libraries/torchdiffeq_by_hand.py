"""torchdiffeq's odeint, with the trace by autograd."""

from __future__ import annotations

import math
from typing import Any

import torch
from torchdiffeq import odeint


def build(field: Any, dim: int, estimate: bool = False) -> Any:
    """An exact trace, or one Rademacher probe a row."""

    def solve(x: Any, times: list[float]) -> tuple[Any, Any]:
        probe = torch.randint_like(x, 2) * 2 - 1

        def augmented(t: Any, state: tuple[Any, ...]) -> tuple[Any, Any]:
            with torch.enable_grad():
                at = state[0] if state[0].requires_grad else state[0].detach().requires_grad_()
                dx = field(t, at)
                if estimate:
                    (product,) = torch.autograd.grad(dx, at, probe, create_graph=True)
                    return dx, (product * probe).flatten(1).sum(1)
                trace = sum(
                    torch.autograd.grad(dx.flatten(1)[:, i].sum(), at, create_graph=True)[
                        0
                    ].flatten(1)[:, i]
                    for i in range(dim)
                )
            return dx, trace

        zero = torch.zeros_like(x.flatten(1)[:, 0])
        ends = torch.tensor(times, dtype=x.dtype)
        path = odeint(augmented, (x, zero), ends, rtol=1e-6, atol=1e-7)
        return path[0][-1], path[1][-1]

    def base(z: Any) -> Any:
        return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def log_prob(x: Any) -> Any:
        z, change = solve(x, [field.end_time, 0.0])
        return base(z) + change

    def sample(z: Any) -> Any:
        x, change = solve(z, [0.0, field.end_time])
        return x, base(z) - change

    return log_prob, sample


def build_estimated(field: Any, dim: int) -> Any:
    """The same with one Rademacher probe a row."""
    return build(field, dim, estimate=True)
