"""What one evaluation of the augmented dynamics needs of f = net, or net - z: each derivative is
computed when it is first asked for, and once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.architecture.transforms import Block
from harness.errors import BackendError
from harness.trial import ModelSpec, TraceName
from harness_torch.net.net import Net
from harness_torch.net.taylor import Jet

__all__ = ["Derivatives"]


class Derivatives:
    """f, J = df/dz and derivatives in time at one time and one batch of states.

    Arguments:
        model: The architecture.
        block: Its shapes.
        net: The net.
        t: The time, 0-dimensional.
        z: The states, [batch, ...].
        probe: eps, in the shape of z, or of the bottleneck for the trace of that name.
        order: The highest Taylor coefficient in time that will be asked for.
    """

    def __init__(
        self,
        model: ModelSpec,
        block: Block,
        net: Net,
        t: Tensor,
        z: Tensor,
        probe: Tensor | None,
        order: int,
    ) -> None:
        self._residual, self._block = model.residual, block
        self._net, self._t, self._z = net, t, z
        self._probe, self._order = probe, order
        self._point = net.at(t, z)
        self._found: dict[str, Tensor] = {}
        self._path: tuple[Jet, list[Tensor]] | None = None
        self.f = self._less(self._point.value, z)

    def divergence(self, trace: TraceName) -> Tensor:
        """Tr J [batch]: `exact`; `hutchinson`, eps^T J eps (M. Hutchinson, A stochastic estimator
        of the trace of the influence matrix, 1989); or `bottleneck` (FFJORD, section 3.1.1).

        With `residual`, D is taken from the trace of the net, exact or estimated.
        """
        if trace == "exact":
            return self.diagonal.sum(dim=1)
        eps = self.probe
        if trace == "bottleneck":
            estimate = self._point.bottleneck(eps, self._block.bottleneck)
        else:
            # A regularizer may have needed eps^T J already; else forward mode is cheaper.
            product = self._found.get("pulled_probe")
            product = self._point.tangent(eps) if product is None else product
            estimate = (product * eps).flatten(1).sum(dim=1)
        return estimate - self._z[0].numel() if self._residual else estimate

    @property
    def probe(self) -> Tensor:
        """eps; raises BackendError if there is none."""
        if self._probe is None:
            raise BackendError("the batch has no probe, but the trace or a regularizer needs one")
        return self._probe

    @property
    def probe_jacobian(self) -> Tensor:
        """eps^T J, [batch, ...]."""
        pulled = self._once("pulled_probe", lambda: self._point.cotangent(self.probe))
        return self._less(pulled, self.probe)

    @property
    def f_jacobian(self) -> Tensor:
        """f^T J, [batch, ...]."""
        return self._once("f_jacobian", lambda: self._less(self._point.cotangent(self.f), self.f))

    @property
    def jacobian_f(self) -> Tensor:
        """J f, [batch, ...]."""
        return self._once("jacobian_f", lambda: self._less(self._point.tangent(self.f), self.f))

    @property
    def jacobian(self) -> Tensor:
        """J, [batch, D, D]."""
        return self._once("jacobian", self._jacobian)

    @property
    def diagonal(self) -> Tensor:
        """The diagonal of J, [batch, D]."""
        return self._once("diagonal", self._diagonal)

    @property
    def in_time(self) -> Tensor:
        """df/dt at the fixed state, [batch, ...]."""
        return self._once(
            "in_time", lambda: self._jet().push(torch.zeros_like(self._z)).expand_as(self._z)
        )

    def along_path(self, order: int) -> Tensor:
        """Taylor coefficient of f in time along the solution z' = f, [batch, ...]."""
        if self._path is None:
            self._path = self._jet(), [self.f]
        jet, found = self._path
        while len(found) <= order:
            z = found[-1] / len(found)
            found.append(self._less(jet.push(z), z))
        return found[order]

    def _jet(self) -> Jet:
        return Jet(self._point, self._net.layers.series(self._t, self._order))

    def _jacobian(self) -> Tensor:
        net = self._point.jacobian()
        eye = torch.eye(net.shape[1], dtype=net.dtype, device=net.device)
        return self._less(net, eye)

    def _diagonal(self) -> Tensor:
        if "jacobian" in self._found:
            return self._found["jacobian"].diagonal(dim1=1, dim2=2)
        net = self._point.diagonal()
        return net - 1 if self._residual else net

    def _less(self, of_net: Tensor, of_identity: Tensor) -> Tensor:
        """What the net gives, less what z gives if f = net - z."""
        return of_net - of_identity if self._residual else of_net

    def _once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        if name not in self._found:
            self._found[name] = compute()
        return self._found[name]
