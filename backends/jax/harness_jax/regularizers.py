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

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from harness.trial import RegularizerName
from harness_jax.net.derivatives import Derivatives

__all__ = ["INTEGRANDS"]


def _mean(x: jax.Array) -> jax.Array:
    return jnp.mean(x.reshape(len(x), -1), axis=1)


def _mean_square(x: jax.Array) -> jax.Array:
    return _mean(x * x)


def _sum_square(x: jax.Array) -> jax.Array:
    return jnp.sum((x * x).reshape(len(x), -1), axis=1)


def _root(x: jax.Array) -> jax.Array:
    """The square root, with gradient 0 at 0, where a net that starts at zero begins."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def _rms(x: jax.Array) -> jax.Array:
    """Root mean square of each row; its gradient at 0 is 0."""
    return _root(_mean_square(x))


def _off_diagonal(at: Derivatives) -> jax.Array:
    return at.jacobian.rest / max(1, at.dimensions * (at.dimensions - 1))


def _released_off_diagonal(at: Derivatives) -> jax.Array:
    """FFJORD's code takes every D-th entry of the flat Jacobian for its diagonal: column 0."""
    return at.jacobian.other_columns / max(1, at.dimensions * (at.dimensions - 1))


def _frobenius(at: Derivatives) -> jax.Array:
    return _root((at.jacobian.diagonal + at.jacobian.rest) / at.dimensions**2)


def _taylor(order: int) -> Callable[[Derivatives], jax.Array]:
    """The square of d^order z / dt^order along the solution."""
    return lambda at: _mean_square(at.path_derivative(order))


INTEGRANDS: Mapping[RegularizerName, Callable[[Derivatives], jax.Array]] = {
    "directional_jvp": lambda at: _sum_square(at.jacobian_f),
    "ffjord.dl2": lambda at: _rms(at.f_jacobian),
    "ffjord.jdiag": lambda at: _root(at.jacobian.diagonal / at.dimensions),
    "ffjord.jfrob": _frobenius,
    "ffjord.joffdiag": _off_diagonal,
    "ffjord.l1": lambda at: _mean(jnp.abs(at.f)),
    "ffjord.l2": lambda at: _rms(at.f),
    "jacobian_sum": lambda at: _sum_square(at.probe_jacobian),
    "kinetic_sum": lambda at: _sum_square(at.f),
    "released.jdiag": lambda at: _root(at.jacobian.first_column / at.dimensions),
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
