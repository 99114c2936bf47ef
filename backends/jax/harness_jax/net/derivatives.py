"""What one evaluation of the augmented dynamics needs of the field f: each derivative is computed
when it is first asked for, and once.
"""

from __future__ import annotations

import math
from functools import cached_property

import jax

from harness.errors import BackendError
from harness.trial import TraceName
from harness_jax.net.linearization import JacobianSums
from harness_jax.net.net import Net
from harness_jax.net.traces import hutch_plus_plus

__all__ = ["Derivatives"]


class Derivatives:
    """The field f, J = df/dz and derivatives in time at one time and one batch of states.

    Arguments:
        net: The field.
        t: Time, 0-dimensional.
        z: States, [batch, *shape].
        probe: The probe eps, in the shape of z, or of the bottleneck for the trace of that name;
            or several, [probes, batch, ...], over which a trace is averaged; None if nothing needs
            one.
    """

    def __init__(self, net: Net, t: jax.Array, z: jax.Array, probe: jax.Array | None) -> None:
        self._net, self._t, self._z, self._probe = net, t, z, probe
        self._linear = net.at(t, z)
        self.f = self._linear.f

    def divergence(self, trace: TraceName) -> jax.Array:
        """Tr J or its estimate, [batch], sharing what the regularizers needed before.

        Arguments:
            trace: `exact`; `hutchinson`, eps^T J eps (M. Hutchinson, A stochastic estimator of the
                trace of the influence matrix, 1989); `hutch++`; or `bottleneck`.
        """
        if trace == "exact":
            return self.jacobian.trace if "jacobian" in vars(self) else self._linear.trace()
        if trace == "bottleneck":
            return self._linear.bottleneck(self.probe, self._net.block.bottleneck)
        if trace == "hutch++":
            estimate = hutch_plus_plus(self._linear.net_tangent, self.probe)
            return self._linear.whole(estimate)
        if "probe_jacobian" in vars(self):
            product = self.probe_jacobian
        else:  # forward mode is cheaper
            product = self._linear.tangent(self.probe)
        estimate = self._linear.inner(product, self.probe)
        if not self._net.residual:
            return estimate
        # The trace of the net is estimated, that of the identity is known: D, not |eps|^2.
        squares = self._linear.inner(self.probe, self.probe)
        return estimate + squares - self.dimensions

    @property
    def dimensions(self) -> int:
        """The number of dimensions D."""
        return math.prod(self.f.shape[1:])

    @property
    def probe(self) -> jax.Array:
        """The probe eps.

        Raises:
            BackendError: The batch has none.
        """
        if self._probe is None:
            raise BackendError("the batch has no probe, but the trace or a regularizer needs one")
        return self._probe

    @cached_property
    def probe_jacobian(self) -> jax.Array:
        """The product eps^T J, [batch, *shape].

        Raises:
            BackendError: The probe is that of a bottleneck.
        """
        if self.probe.shape != self.f.shape:
            raise BackendError(
                f"eps^T J needs a probe of shape {self.f.shape}, found {self.probe.shape}"
            )
        return self._linear.cotangent(self.probe)

    @cached_property
    def f_jacobian(self) -> jax.Array:
        """The product f^T J, [batch, *shape]."""
        return self._linear.cotangent(self.f)

    @cached_property
    def jacobian_f(self) -> jax.Array:
        """The product J f, [batch, *shape]."""
        return self._linear.tangent(self.f)

    @cached_property
    def jacobian(self) -> JacobianSums:
        """Sums over the entries of J, of which it never holds all."""
        return self._linear.jacobian_sums()

    @cached_property
    def in_time(self) -> jax.Array:
        """The derivative df/dt at the fixed state, [batch, *shape]."""
        return self._net.time_derivative(self._t, self._z)

    def path_derivative(self, order: int) -> jax.Array:
        """The derivative d^order z / dt^order along the solution of dz/dt = f, [batch, *shape]."""
        return self._net.solution_derivative(self._t, self._z, order)
