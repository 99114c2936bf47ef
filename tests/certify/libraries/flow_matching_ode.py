"""flow_matching's ODESolver: its default method, and dopri5."""

from __future__ import annotations

import math
from typing import Any

from flow_matching.solver import ODESolver


def build(field: Any, dim: int, exact: bool = True, **settings: Any) -> Any:
    """compute_likelihood with the settings given: by default one Euler step."""
    if field.end_time != 1:
        raise NotImplementedError("its time grid must start at 1 and end at 0")
    solver = ODESolver(velocity_model=lambda x, t: field(t, x))

    def base(z: Any) -> Any:
        return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def log_prob(x: Any) -> Any:
        _, log_p = solver.compute_likelihood(
            x, base, step_size=None, exact_divergence=exact, enable_grad=True, **settings
        )
        return log_p

    def sample(z: Any) -> Any:
        return solver.sample(z, step_size=None, **settings)

    return log_prob, sample


def build_estimated(field: Any, dim: int) -> Any:
    """Its default divergence: one Rademacher probe a row."""
    return build(field, dim, exact=False)


def build_dopri5(field: Any, dim: int, exact: bool = True) -> Any:
    """An adaptive solver."""
    return build(field, dim, exact, method="dopri5", atol=1e-7, rtol=1e-6)


def build_dopri5_estimated(field: Any, dim: int) -> Any:
    """The same with one Rademacher probe a row."""
    return build_dopri5(field, dim, exact=False)
