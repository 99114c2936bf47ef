"""Regularizers by hand: a linear field, whose path and integrals are known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from harness_torch.control import BoundField, Field, Inputs, Rates
from harness_torch.dynamics import Augmented
from harness_torch.regularizers import INTEGRANDS
from harness_torch.solve import solve
from torch import Tensor

from harness.trial import AdaptiveSolver, RegularizerName, TraceName

SOLVER = AdaptiveSolver("dopri5", rtol=1e-10, atol=1e-10)


def _linear(matrix: list[list[float]], T: float, eps: Tensor) -> Inputs:
    """f(t, z) = A z over [0, T], as a net of one layer."""
    weight = torch.tensor(matrix, dtype=torch.float64)
    arrays = {
        "layer0/weight": torch.cat([torch.zeros(len(weight), 1).double(), weight], dim=1),
        "layer0/bias": torch.zeros(len(weight), dtype=torch.float64),
    }
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    return Inputs(arrays, T * one, eps, zero, one)


def test_integrands_at_a_point() -> None:
    f = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    cotangent = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    kinetic = INTEGRANDS["rnode.kinetic"](f, None)
    jacobian = INTEGRANDS["rnode.jacobian"](f, cotangent)
    assert kinetic.tolist() == [(9 + 16) / 4, 1 / 4]
    assert jacobian.tolist() == [(1 + 4) / 2, 9 / 2]


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_integrals_along_a_linear_flow(trace: TraceName) -> None:
    """Z' = diag(a, b) z over [0, T]: z_d(t) = z_d e^{a_d t}, so the kinetic integral is
    1/4 sum_d a_d z_d^2 (e^{2 a_d T} - 1) / 2, and (eps^T A)_d = a_d eps_d is constant.
    """
    rates, T = (0.5, -1.5), 0.8
    z = torch.tensor([[1.0, 2.0], [-0.5, 0.3]], dtype=torch.float64)
    eps = torch.tensor([[1.0, -1.0], [0.5, 2.0]], dtype=torch.float64)
    names: tuple[RegularizerName, ...] = ("rnode.jacobian", "rnode.kinetic")
    inputs = _linear([[rates[0], 0.0], [0.0, rates[1]]], T, eps)
    field = Augmented("concat", "identity", trace, names)
    q = torch.zeros(3, 2, dtype=torch.float64)
    end = solve(field, inputs, z, q, SOLVER, lambda u, q: (u, q[0]))

    for row in range(2):
        z1 = [float(z[row, d]) * math.exp(rates[d] * T) for d in range(2)]
        if trace == "exact":
            a = -T * sum(rates)
        else:
            a = -T * sum(rates[d] * float(eps[row, d]) ** 2 for d in range(2))
        jacobian = T * sum((rates[d] * float(eps[row, d])) ** 2 for d in range(2)) / 2
        kinetic = sum(
            rates[d] * float(z[row, d]) ** 2 * math.expm1(2 * rates[d] * T) / 8 for d in range(2)
        )
        assert end.u[row].tolist() == pytest.approx(z1, rel=1e-9)
        assert end.q[:, row].tolist() == pytest.approx([a, jacobian, kinetic], rel=1e-8)


@dataclass(frozen=True)
class _Wild(Field):
    """u' = -u, with an integral that oscillates fast."""

    size: float

    def bind(self, inputs: Any) -> BoundField:  # noqa: ANN401
        def field(s: Tensor, u: Tensor) -> Rates:
            wild = torch.full((len(u),), self.size * math.sin(1e3 * float(s)), dtype=u.dtype)
            return -u, torch.stack([-u.sum(1), wild])

        return field


def test_regularizers_stay_out_of_the_step_size_control() -> None:
    """A second integral that oscillates fast changes no step."""
    u, q = torch.ones(3, 2, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    steps = []
    for size in (0.0, 1e3):
        end = solve(_Wild(size), (), u, q, SOLVER, lambda u, q: (u, q[0]))
        steps.append((end.accepted, end.rejected))
    assert steps[0] == steps[1]
