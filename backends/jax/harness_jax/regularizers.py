"""Integrands of the regularizers, by name; each is integrated along the path of every example.

The formulas are those of docs/numerics.md, section 5, with the means over dimensions of the
released codes where the papers have sums; J = df/dz, D the number of dimensions.

References:
    W. Grathwohl et al.: FFJORD, 2018, https://arxiv.org/abs/1810.01367 (its code).
    C. Finlay, J.-H. Jacobsen, L. Nurbekyan, A. Oberman: How to train your neural ODE: the world
    of Jacobian and kinetic regularization, 2020, https://arxiv.org/abs/2002.02798.
    J. Kelly, J. Bettencourt, M. Johnson, D. Duvenaud: Learning differential equations that are
    easy to solve, 2020, https://arxiv.org/abs/2007.04504.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp

from harness.trial import RegularizerName
from harness_jax.net.derivatives import Derivatives

__all__ = ["INTEGRANDS", "NEEDS_COTANGENT", "NEEDS_JACOBIAN", "NOT_INTEGRALS"]

NOT_INTEGRALS = frozenset({"steer", "tpr"})
"""Regularizers that are no integrals along the path."""

NEEDS_COTANGENT = frozenset({"jacobian_sum", "rnode.jacobian"})
"""Those that are functions of eps^T J."""

NEEDS_JACOBIAN = frozenset(
    {"ffjord.jdiag", "ffjord.jfrob", "ffjord.joffdiag", "released.jdiag", "released.joffdiag"}
)
"""Those that are functions of all columns of J."""


def _sum(x: jax.Array) -> jax.Array:
    return jnp.sum(x.reshape(len(x), -1), axis=1)


def _mean(x: jax.Array) -> jax.Array:
    return jnp.mean(x.reshape(len(x), -1), axis=1)


def _mean_square(x: jax.Array) -> jax.Array:
    return _mean(x * x)


def _sum_square(x: jax.Array) -> jax.Array:
    return _sum(x * x)


def _root(x: jax.Array) -> jax.Array:
    """The square root, with gradient 0 at 0, where a net that starts at zero begins."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def _joffdiag(at: Derivatives) -> jax.Array:
    return at.jacobian.rest / max(1, at.dimensions * (at.dimensions - 1))


def _released_joffdiag(at: Derivatives) -> jax.Array:
    """FFJORD's code takes every D-th entry of the flat Jacobian for its diagonal: column 0."""
    return at.jacobian.other_columns / max(1, at.dimensions * (at.dimensions - 1))


def _jfrob(at: Derivatives) -> jax.Array:
    return _root((at.jacobian.diagonal + at.jacobian.rest) / at.dimensions**2)


def _taylor(order: int, at: Derivatives) -> jax.Array:
    return _mean_square(at.derivative(order))


INTEGRANDS: Mapping[RegularizerName, Callable[[Derivatives], jax.Array]] = {
    "directional_jvp": lambda at: _sum_square(at.directional()),
    "ffjord.dl2": lambda at: _root(_mean_square(at.f_cotangent)),
    "ffjord.jdiag": lambda at: _root(at.jacobian.diagonal / at.dimensions),
    "ffjord.jfrob": _jfrob,
    "ffjord.joffdiag": _joffdiag,
    "ffjord.l1": lambda at: _mean(jnp.abs(at.f)),
    "ffjord.l2": lambda at: _root(_mean_square(at.f)),
    "jacobian_sum": lambda at: _sum_square(at.probe_cotangent),
    "kinetic_sum": lambda at: _sum_square(at.f),
    "released.jdiag": lambda at: _root(at.jacobian.first_column / at.dimensions),
    "released.joffdiag": _released_joffdiag,
    "rnode.directional": lambda at: 0.5 * _mean_square(at.f_cotangent),
    "rnode.jacobian": lambda at: _mean_square(at.probe_cotangent),
    "rnode.kinetic": lambda at: 0.5 * _mean_square(at.f),
    "rnode.total": lambda at: 0.5 * _mean_square(at.total()),
    "taylor_2": partial(_taylor, 2),
    "taylor_3": partial(_taylor, 3),
    "taylor_4": partial(_taylor, 4),
}
"""By name: the dynamics at a point -> integrand, [batch]."""
