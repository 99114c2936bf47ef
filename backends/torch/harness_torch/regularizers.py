"""Integrands of the regularizers, by name; each is integrated along the path of every example.

The formulas are those of docs/numerics.md, section 5, with the means over dimensions of the
released codes where the papers have sums; J = df/dz, D the number of dimensions.

References:
    W. Grathwohl et al.: FFJORD, 2018, https://arxiv.org/abs/1810.01367 (`ffjord.*`, its code).
    C. Finlay, J.-H. Jacobsen, L. Nurbekyan, A. Oberman: How to train your neural ODE: the world
    of Jacobian and kinetic regularization, 2020, https://arxiv.org/abs/2002.02798 (`rnode.*` as in
    its code, `*_sum` as in its text).
    J. Kelly, J. Bettencourt, M. Johnson, D. Duvenaud: Learning differential equations that are
    easy to solve, 2020, https://arxiv.org/abs/2007.04504 (`taylor_*`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from harness.trial import RegularizerName
from harness_torch.net.derivatives import Derivatives

__all__ = ["INTEGRANDS", "time_order"]


def time_order(names: tuple[RegularizerName, ...]) -> int:
    """The highest Taylor coefficient in time of f that these regularizers read."""
    orders = {"rnode.total": 1, "taylor_2": 1, "taylor_3": 2, "taylor_4": 3}
    return max([0, *(orders.get(name, 0) for name in names)])


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(dim=1)


def _mean_square(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(dim=1)


def _sum_square(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(dim=1)


def _rms(x: Tensor) -> Tensor:
    """Root mean square of each row; its gradient at 0 is 0."""
    flat = x.flatten(1)
    norm: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return norm / math.sqrt(flat.shape[1])


def _off_diagonal(at: Derivatives) -> Tensor:
    size = at.jacobian.shape[1]
    if size == 1:
        return torch.zeros_like(at.jacobian[:, 0, 0])
    # Not a difference of two sums: that would cancel where the diagonal dominates.
    mask = 1 - torch.eye(size, dtype=at.jacobian.dtype, device=at.jacobian.device)
    return _sum_square(at.jacobian * mask) / (size * (size - 1))


def _released_off_diagonal(at: Derivatives) -> Tensor:
    """FFJORD's code takes every D-th entry of the flat Jacobian for its diagonal: column 0."""
    size = at.jacobian.shape[1]
    return _sum_square(at.jacobian[:, :, 1:]) / max(1, size * (size - 1))


def _taylor(order: int) -> Callable[[Derivatives], Tensor]:
    """The square of d^K z / dt^K = (K - 1)! f_{K-1}, f_k the Taylor coefficients of f along the
    solution.
    """
    factor = math.factorial(order - 1) ** 2
    return lambda at: factor * _mean_square(at.path_coefficient(order - 1))


INTEGRANDS: Mapping[RegularizerName, Callable[[Derivatives], Tensor]] = {
    "directional_jvp": lambda at: _sum_square(at.jacobian_f),
    "ffjord.dl2": lambda at: _rms(at.f_jacobian),
    "ffjord.jdiag": lambda at: _rms(at.diagonal),
    "ffjord.jfrob": lambda at: _rms(at.jacobian),
    "ffjord.joffdiag": _off_diagonal,
    "ffjord.l1": lambda at: _mean(at.f.abs()),
    "ffjord.l2": lambda at: _rms(at.f),
    "jacobian_sum": lambda at: _sum_square(at.probe_jacobian),
    "kinetic_sum": lambda at: _sum_square(at.f),
    "released.jdiag": lambda at: _rms(at.jacobian[:, :, 0]),
    "released.joffdiag": _released_off_diagonal,
    "rnode.directional": lambda at: 0.5 * _mean_square(at.f_jacobian),
    "rnode.jacobian": lambda at: _mean_square(at.probe_jacobian),
    "rnode.kinetic": lambda at: 0.5 * _mean_square(at.f),
    "rnode.total": lambda at: 0.5 * _mean_square(at.f_jacobian + at.in_time),
    "taylor_2": _taylor(2),
    "taylor_3": _taylor(3),
    "taylor_4": _taylor(4),
}
"""By name: derivatives at one time -> integrand, [batch]. `steer` and `tpr` have none."""
