"""The dynamics of one block: the MLP f(t, z), its derivatives, and the augmented right-hand side.

All passes are plain differentiable operations, so one autodiff pass gives the gradient of
anything built from them. The released FFJORD code differentiates an autodiff pass instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import BackendError
from harness.trial import LayerName, NonlinearityName, RegularizerName, TraceName
from harness_torch.control import BoundField, Field, Inputs, Rates
from harness_torch.layers import LAYERS, NONLINEARITIES, Affine
from harness_torch.regularizers import INTEGRANDS, NEEDS_COTANGENT

__all__ = ["Augmented", "Dynamics", "Velocity"]


class Dynamics:
    """f(t, z), an MLP whose layers see the time.

    Arguments:
        layer: Name of the layer.
        nonlinearity: Name of the function between layers.
        arrays: Arrays of the block by portable name without the block, e.g. `layer0/weight`.
    """

    def __init__(
        self, layer: LayerName, nonlinearity: NonlinearityName, arrays: Mapping[str, Tensor]
    ) -> None:
        self._act = NONLINEARITIES[nonlinearity]
        by_layer: dict[str, dict[str, Tensor]] = {}
        for name, array in arrays.items():
            place, _, kind = name.partition("/")
            by_layer.setdefault(place, {})[kind] = array
        self._at = LAYERS[layer]([by_layer[f"layer{i}"] for i in range(len(by_layer))])

    def value(self, t: Tensor, z: Tensor) -> Tensor:
        """f(t, z); z is [batch, D]."""
        *hidden, last = self._at(t)
        for layer in hidden:
            z = self._act.value(layer.apply(z))
        return last.apply(z)

    def value_and_tangents(self, t: Tensor, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """f(t, z) [batch, D] and J v [k, batch, D] of k tangents v, [k, batch, D] or [k, 1, D]."""
        z, v, last = self._to_last_layer(t, z, v)
        return last.apply(z), last.tangent(v)

    def value_and_trace(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """f(t, z) [batch, D] and Tr(df/dz) [batch], with one tangent a dimension."""
        h, v, last = self._to_last_layer(t, z, _basis(z))
        # Only the diagonal of the last product is wanted: entry k of A v_k.
        return last.apply(h), torch.einsum("kbh,kh->b", v, last.matrix)

    def value_and_cotangent(self, t: Tensor, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """f(t, z) and u^T J, both [batch, D], for u [batch, D]; reverse mode written out."""
        *hidden, last = self._at(t)
        slopes = []
        for layer in hidden:
            x = layer.apply(z)
            z = self._act.value(x)
            slopes.append(self._act.derivative(x, z))
        f, u = last.apply(z), last.cotangent(u)
        for layer, slope in zip(reversed(hidden), reversed(slopes), strict=True):
            u = layer.cotangent(u * slope)
        return f, u

    def _to_last_layer(self, t: Tensor, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Affine]:
        """Value and tangents after the last nonlinearity, and the layer that follows."""
        *hidden, last = self._at(t)
        for layer in hidden:
            x = layer.apply(z)
            z = self._act.value(x)
            v = layer.tangent(v) * self._act.derivative(x, z)
        return z, v.expand(-1, len(z), -1), last


def _basis(z: Tensor) -> Tensor:
    """The unit vectors of the state space, [D, 1, D], as tangents shared by the batch."""
    return torch.eye(z.shape[1], dtype=z.dtype, device=z.device)[:, None, :]


@dataclass(frozen=True)
class Velocity(Field):
    """dz/ds = T span f(T (start + span s), z) alone, without integrals.

    Arguments:
        layer: Name of the layer.
        nonlinearity: Name of the function between layers.
    """

    layer: LayerName
    nonlinearity: NonlinearityName

    def bind(self, inputs: Inputs) -> BoundField:
        """See `Field.bind`."""
        dynamics = Dynamics(self.layer, self.nonlinearity, inputs.arrays)
        scale, origin = inputs.T * inputs.span, inputs.T * inputs.start

        def field(s: Tensor, z: Tensor) -> Rates:
            f = dynamics.value(torch.addcmul(origin, scale, s), z)
            return scale * f, z.new_zeros((0, len(z)))

        return field


@dataclass(frozen=True)
class Augmented(Field):
    """What one solve integrates: z, -Tr(df/dz) and the regularizers.

    Arguments:
        layer: Name of the layer.
        nonlinearity: Name of the function between layers.
        trace: `exact`, or `hutchinson`: eps^T J eps (M. Hutchinson, A stochastic estimator of the
            trace of the influence matrix, 1989).
        regularizers: Names of further integrands.
    """

    layer: LayerName
    nonlinearity: NonlinearityName
    trace: TraceName
    regularizers: tuple[RegularizerName, ...] = ()

    def bind(self, inputs: Inputs) -> BoundField:
        """(s, z) -> T span f, and T span (-divergence, integrands...) as rows, at t = T (start +
        span s).
        """
        dynamics = Dynamics(self.layer, self.nonlinearity, inputs.arrays)
        scale, origin = inputs.T * inputs.span, inputs.T * inputs.start

        def field(s: Tensor, z: Tensor) -> Rates:
            t = torch.addcmul(origin, scale, s)
            f, divergence, cotangent = self._derivatives(dynamics, t, z, inputs.probe)
            rates = [INTEGRANDS[name](f, cotangent) for name in self.regularizers]
            return scale * f, scale * torch.stack([-divergence, *rates])

        return field

    def _derivatives(
        self, dynamics: Dynamics, t: Tensor, z: Tensor, probe: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """f, its divergence, and eps^T J if a regularizer reads it."""
        wants_cotangent = not NEEDS_COTANGENT.isdisjoint(self.regularizers)
        if self.trace == "exact":
            if not wants_cotangent:
                return *dynamics.value_and_trace(t, z), None
            f, columns = dynamics.value_and_tangents(t, z, _basis(z))
            cotangent = torch.einsum("kbd,bd->bk", columns, _eps(probe))
            return f, columns.diagonal(dim1=0, dim2=2).sum(dim=1), cotangent
        eps = _eps(probe)
        if wants_cotangent:
            f, cotangent = dynamics.value_and_cotangent(t, z, eps)
            return f, (cotangent * eps).sum(dim=1), cotangent
        f, tangents = dynamics.value_and_tangents(t, z, eps[None])
        return f, (tangents[0] * eps).sum(dim=1), None


def _eps(probe: Tensor | None) -> Tensor:
    if probe is None:
        raise BackendError("the batch has no probe, but the trace or a regularizer needs one")
    return probe
