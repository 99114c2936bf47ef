"""A flow of numpy and scipy: solve_ivp, and derivatives by complex steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from harness.certify.closed_forms import standard_normal_log_p


def build(field: Any, dim: int, probes: np.random.Generator | None = None) -> Any:
    """An exact trace, or Rademacher probes of `probes`."""

    def trace(t: float, x: Any, directions: Any) -> Any:
        flat = x.reshape(len(x), dim)
        products = (
            (field(t, (flat + 1e-20j * e).reshape(x.shape)).imag.reshape(flat.shape) / 1e-20 * e)
            for e in directions
        )
        return sum(product.sum(-1) for product in products)

    def solve(x: Any, start: float, end: float, probed: bool) -> tuple[Any, Any]:
        signs = probes.choice([-1.0, 1.0], (1, len(x), dim)) if probes and probed else np.eye(dim)

        def velocity(t: float, state: Any) -> Any:
            points = state.reshape(len(x), dim + 1)[:, :-1].reshape(x.shape)
            rate = trace(t, points, signs)
            moved = field(t, points).reshape(len(x), dim)
            return np.concatenate([moved, rate[:, None]], axis=1).ravel()

        first = np.concatenate([x.reshape(len(x), dim), np.zeros((len(x), 1))], axis=1)
        done = solve_ivp(velocity, (start, end), first.ravel(), rtol=1e-8, atol=1e-10)
        last = done.y[:, -1].reshape(first.shape).astype(x.dtype)
        return last[:, :-1], last[:, -1]

    def log_prob(x: Any) -> Any:
        z, change = solve(x, field.end_time, 0.0, True)
        return (standard_normal_log_p(z) + change).astype(x.dtype)

    def sample(z: Any) -> Any:
        x, change = solve(z, 0.0, field.end_time, False)
        flat = z.reshape(len(z), dim)
        return x.reshape(z.shape), standard_normal_log_p(flat) - change

    return log_prob, sample


def estimated() -> Callable[[Any, int], Any]:
    """A builder whose probes are drawn anew at each call of log_prob."""
    generator = np.random.default_rng(0)
    return lambda field, dim: build(field, dim, generator)


build_estimated = estimated()
