"""What one evaluation of the augmented dynamics needs of f = net, or net - z: each derivative is
computed when it is first asked for, and once.
"""

from __future__ import annotations

import math
from functools import cached_property

import jax

from harness.errors import BackendError
from harness_jax.net.linearization import JacobianSums
from harness_jax.net.net import Net

__all__ = ["Derivatives"]


class Derivatives:
    """The dynamics at (t, z); what several integrands share is computed once.

    Arguments:
        dynamics: f.
        t: Time, shape ().
        z: State, [batch, *shape].
        probe: eps, [batch, *shape]; None if nothing needs one.
    """

    def __init__(self, dynamics: Net, t: jax.Array, z: jax.Array, probe: jax.Array | None) -> None:
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
