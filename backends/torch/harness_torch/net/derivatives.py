"""What one evaluation of the augmented dynamics needs of the field f: each derivative is computed
when it is first asked for, and once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.errors import BackendError
from harness.trial import TraceName
from harness_torch.net.net import Net
from harness_torch.net.taylor import Jet
from harness_torch.net.traces import hutch_plus_plus

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
        order: The highest Taylor coefficient in time that will be asked for.
    """

    def __init__(
        self, net: Net, t: Tensor, z: Tensor, probe: Tensor | None, order: int = 0
    ) -> None:
        self._net, self._t, self._z, self._probe, self._order = net, t, z, probe, order
        self._linear = net.at(t, z)
        self._found: dict[str, Tensor] = {}
        self._path: tuple[Jet, list[Tensor]] | None = None
        self.f = self._linear.f

    def divergence(self, trace: TraceName) -> Tensor:
        """Tr J or its estimate, [batch], sharing what the regularizers needed before.

        Arguments:
            trace: `exact`; `hutchinson`, eps^T J eps (M. Hutchinson, A stochastic estimator of the
                trace of the influence matrix, 1989); `hutch++`; or `bottleneck`.
        """
        if trace == "exact":
            return self.diagonal.sum(dim=1)
        if trace == "bottleneck":
            return self._linear.bottleneck(self.probe, self._net.block.bottleneck)
        if trace == "hutch++":
            estimate = hutch_plus_plus(self._linear.net_tangent, self.probe)
            return self._linear.whole(estimate)
        if "_net_cotangent" in self._found:
            product = self._net_cotangent
        else:  # forward mode is cheaper
            product = self._linear.net_tangent(self.probe)
        # The trace of the net is estimated, that of the identity is known: D, not |eps|^2.
        return self._linear.whole(self._linear.inner(product, self.probe))

    @property
    def probe(self) -> Tensor:
        """The probe eps.

        Raises:
            BackendError: The batch has none.
        """
        if self._probe is None:
            raise BackendError("the batch has no probe, but the trace or a regularizer needs one")
        return self._probe

    @property
    def probe_jacobian(self) -> Tensor:
        """The product eps^T J, [batch, *shape].

        Raises:
            BackendError: The probe is that of a bottleneck.
        """
        return self._once(
            "probe_jacobian", lambda: self._linear.less(self._net_cotangent, self.probe)
        )

    @property
    def f_jacobian(self) -> Tensor:
        """The product f^T J, [batch, *shape]."""
        return self._once("f_jacobian", lambda: self._linear.cotangent(self.f))

    @property
    def jacobian_f(self) -> Tensor:
        """The product J f, [batch, *shape]."""
        return self._once("jacobian_f", lambda: self._linear.tangent(self.f))

    @property
    def jacobian(self) -> Tensor:
        """The Jacobian J, [batch, D, D]."""
        return self._once("jacobian", self._linear.jacobian)

    @property
    def diagonal(self) -> Tensor:
        """The diagonal of J, [batch, D]."""
        return self._once("diagonal", self._diagonal)

    @property
    def in_time(self) -> Tensor:
        """The derivative df/dt at the fixed state, [batch, *shape]."""
        return self._once(
            "in_time", lambda: self._jet().push(torch.zeros_like(self._z)).expand_as(self._z)
        )

    def path_coefficient(self, order: int) -> Tensor:
        """A Taylor coefficient of f in time along the solution of dz/dt = f, [batch, *shape]."""
        if self._path is None:
            self._path = self._jet(), [self.f]
        jet, coefficients = self._path
        while len(coefficients) <= order:
            coefficients.append(jet.push(coefficients[-1] / len(coefficients)))
        return coefficients[order]

    @property
    def _net_cotangent(self) -> Tensor:
        """The product of eps with the Jacobian of the net alone."""
        if self.probe.shape != self._z.shape:
            raise BackendError(
                f"eps^T J needs a probe of shape {tuple(self._z.shape)}, "
                f"found {tuple(self.probe.shape)}"
            )
        return self._once("_net_cotangent", lambda: self._linear.net_cotangent(self.probe))

    def _diagonal(self) -> Tensor:
        if "jacobian" in self._found:
            return self.jacobian.diagonal(dim1=1, dim2=2)
        return self._linear.diagonal()

    def _jet(self) -> Jet:
        return Jet(self._linear, self._net.series(self._t, self._order))

    def _once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        # Not functools.cached_property: torch.compile cannot trace the lock that it has in 3.11.
        if name not in self._found:
            self._found[name] = compute()
        return self._found[name]
