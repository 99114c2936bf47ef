"""zuko's free-form Jacobian transform."""

from __future__ import annotations

from typing import Any

import torch
from zuko.distributions import DiagNormal, NormalizingFlow
from zuko.transforms import FreeFormJacobianTransform


def build(field: Any, dim: int, exact: bool = True) -> Any:
    """Events are flattened: zuko's transform takes vectors."""
    transform = FreeFormJacobianTransform(
        lambda t, x: field(t, x.unflatten(-1, field.shape)).flatten(-len(field.shape)),
        t0=field.end_time,
        t1=0.0,
        phi=field.parameters(),
        atol=1e-7,
        rtol=1e-6,
        exact=exact,
    )
    zeros = torch.zeros(dim, dtype=field.dtype)
    flow = NormalizingFlow(transform, DiagNormal(zeros, zeros + 1))

    def log_prob(x: Any) -> Any:
        return flow.log_prob(x.flatten(1))

    def sample(z: Any) -> Any:
        x, change = transform.inv.call_and_ladj(z.flatten(1))
        return x.reshape(z.shape), flow.base.log_prob(z.flatten(1)) - change

    return log_prob, sample


def build_estimated(field: Any, dim: int) -> Any:
    """The same with its own unbiased estimate."""
    return build(field, dim, exact=False)
