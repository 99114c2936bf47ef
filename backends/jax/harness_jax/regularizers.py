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

import math
from collections.abc import Callable, Mapping
from functools import cached_property, partial

import jax
import jax.numpy as jnp

from harness.errors import BackendError
from harness.trial import RegularizerName
from harness_jax.dynamics import Dynamics
from harness_jax.linearization import JacobianSums

__all__ = ["INTEGRANDS", "NEEDS_COTANGENT", "NEEDS_JACOBIAN", "NOT_INTEGRALS", "Point"]

NOT_INTEGRALS = frozenset({"steer", "tpr"})
"""Regularizers that are no integrals along the path."""

NEEDS_COTANGENT = frozenset({"jacobian_sum", "rnode.jacobian"})
"""Those that are functions of eps^T J."""

NEEDS_JACOBIAN = frozenset({"ffjord.jdiag", "ffjord.jfrob", "ffjord.joffdiag"})
"""Those that are functions of all columns of J."""


class Point:
    """The dynamics at (t, z); what several integrands share is computed once.

    Arguments:
        dynamics: f.
        t: Time, shape ().
        z: State, [batch, *shape].
        probe: eps, [batch, *shape]; None if nothing needs one.
    """

    def __init__(
        self, dynamics: Dynamics, t: jax.Array, z: jax.Array, probe: jax.Array | None
    ) -> None:
        self._dynamics, self._t, self._z, self._probe = dynamics, t, z, probe
        self.linear = dynamics.linearize(t, z)
        self.f = self.linear.f

    @property
    def probe(self) -> jax.Array:
        """Eps.

        Raises:
            BackendError: The batch has none.
        """
        if self._probe is None:
            raise BackendError("the batch has no probe, but the trace or a regularizer needs one")
        return self._probe

    @cached_property
    def probe_cotangent(self) -> jax.Array:
        """eps^T J, [batch, *shape].

        Raises:
            BackendError: The probe is that of a bottleneck.
        """
        if self.probe.shape != self.f.shape:
            raise BackendError(
                f"eps^T J needs a probe of shape {self.f.shape}, found {self.probe.shape}"
            )
        return self.linear.cotangent(self.probe)

    @cached_property
    def f_cotangent(self) -> jax.Array:
        """f^T J, [batch, *shape]."""
        return self.linear.cotangent(self.f)

    @cached_property
    def jacobian(self) -> JacobianSums:
        """Sums over the full Jacobian."""
        return self.linear.jacobian_sums()

    @property
    def dimensions(self) -> int:
        """D."""
        return math.prod(self.f.shape[1:])

    def directional(self) -> jax.Array:
        """J f, [batch, *shape]."""
        return self.linear.tangent(self.f)

    def total(self) -> jax.Array:
        """J^T f + df/dt, [batch, *shape]."""
        return self.f_cotangent + self._dynamics.time_derivative(self._t, self._z)

    def derivative(self, order: int) -> jax.Array:
        """d^order z / dt^order, [batch, *shape]."""
        return self._dynamics.solution_derivative(self._t, self._z, order)


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


def _joffdiag(at: Point) -> jax.Array:
    return at.jacobian.rest / max(1, at.dimensions * (at.dimensions - 1))


def _jfrob(at: Point) -> jax.Array:
    return _root((at.jacobian.diagonal + at.jacobian.rest) / at.dimensions**2)


def _taylor(order: int, at: Point) -> jax.Array:
    return _mean_square(at.derivative(order))


INTEGRANDS: Mapping[RegularizerName, Callable[[Point], jax.Array]] = {
    "directional_jvp": lambda at: _sum_square(at.directional()),
    "ffjord.dl2": lambda at: _root(_mean_square(at.f_cotangent)),
    "ffjord.jdiag": lambda at: _root(at.jacobian.diagonal / at.dimensions),
    "ffjord.jfrob": _jfrob,
    "ffjord.joffdiag": _joffdiag,
    "ffjord.l1": lambda at: _mean(jnp.abs(at.f)),
    "ffjord.l2": lambda at: _root(_mean_square(at.f)),
    "jacobian_sum": lambda at: _sum_square(at.probe_cotangent),
    "kinetic_sum": lambda at: _sum_square(at.f),
    "rnode.directional": lambda at: 0.5 * _mean_square(at.f_cotangent),
    "rnode.jacobian": lambda at: _mean_square(at.probe_cotangent),
    "rnode.kinetic": lambda at: 0.5 * _mean_square(at.f),
    "rnode.total": lambda at: 0.5 * _mean_square(at.total()),
    "taylor_2": partial(_taylor, 2),
    "taylor_3": partial(_taylor, 3),
    "taylor_4": partial(_taylor, 4),
}
"""By name: the dynamics at a point -> integrand, [batch]."""
