"""The MLP f(t, z) of one block with its forward- and reverse-mode derivatives.

All passes are plain differentiable operations, so one autodiff pass gives the gradient of anything
built from them. The released FFJORD code differentiates an autodiff pass instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from harness.errors import BackendError
from harness.trial import LayerName, NonlinearityName, RegularizerName, TraceName
from harness_jax.layers import LAYERS, NONLINEARITIES, Affine
from harness_jax.regularizers import INTEGRANDS, NEEDS_COTANGENT

__all__ = ["Augmented", "Dynamics"]


class Dynamics:
    """f(t, z), an MLP whose layers see the time.

    Arguments:
        layer: Name of the layer.
        nonlinearity: Name of the function between layers.
        arrays: Arrays of the block by portable name without the block, e.g. `layer0/weight`.
    """

    def __init__(
        self,
        layer: LayerName,
        nonlinearity: NonlinearityName,
        arrays: Mapping[str, jax.Array],
    ) -> None:
        self._act = NONLINEARITIES[nonlinearity]
        by_layer: dict[str, dict[str, jax.Array]] = {}
        for name, array in arrays.items():
            place, _, kind = name.partition("/")
            by_layer.setdefault(place, {})[kind] = array
        self._at = LAYERS[layer]([by_layer[f"layer{i}"] for i in range(len(by_layer))])

    def value(self, t: jax.Array, z: jax.Array) -> jax.Array:
        """f(t, z); z is [batch, D]."""
        *hidden, last = self._at(t)
        for layer in hidden:
            z, _ = self._act(layer.apply(z))
        return last.apply(z)

    def value_and_tangents(
        self, t: jax.Array, z: jax.Array, v: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """f(t, z) [batch, D] and J v [k, batch, D] of k tangents v, [k, batch, D] or [k, 1, D]."""
        h, v, last = self._to_last_layer(t, z, v)
        return last.apply(h), last.tangent(v)

    def value_and_trace(self, t: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """f(t, z) [batch, D] and Tr(df/dz) [batch], with one tangent a dimension."""
        h, v, last = self._to_last_layer(t, z, _basis(z))
        # Only the diagonal of the last product is wanted: entry k of A v_k.
        return last.apply(h), jnp.einsum("kbh,kh->b", v, last.matrix)

    def value_and_cotangent(
        self, t: jax.Array, z: jax.Array, u: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """f(t, z) and u^T J, both [batch, D], for u [batch, D]; reverse mode written out."""
        *hidden, last = self._at(t)
        slopes = []
        for layer in hidden:
            z, slope = self._act(layer.apply(z))
            slopes.append(slope)
        f, u = last.apply(z), last.cotangent(u)
        for layer, slope in zip(reversed(hidden), reversed(slopes), strict=True):
            u = layer.cotangent(u * slope)
        return f, u

    def _to_last_layer(
        self, t: jax.Array, z: jax.Array, v: jax.Array
    ) -> tuple[jax.Array, jax.Array, Affine]:
        """Value and tangents after the last nonlinearity, and the layer that follows."""
        *hidden, last = self._at(t)
        for layer in hidden:
            z, slope = self._act(layer.apply(z))
            v = layer.tangent(v) * slope
        return z, jnp.broadcast_to(v, (len(v), len(z), v.shape[2])), last


def _basis(z: jax.Array) -> jax.Array:
    """The unit vectors of the state space, [D, 1, D], as tangents shared by the batch."""
    return jnp.eye(z.shape[1], dtype=z.dtype)[:, None, :]


@dataclass(frozen=True)
class Augmented:
    """What one solve integrates beside z: -Tr(df/dz) and the regularizers.

    Arguments:
        trace: `exact`, or `hutchinson`: eps^T J eps (M. Hutchinson, A stochastic estimator of the
            trace of the influence matrix, 1989).
        regularizers: Names of further integrands.
        probe: eps [batch, D], fixed within the solve; None if nothing needs one.
    """

    trace: TraceName
    regularizers: Sequence[RegularizerName]
    probe: jax.Array | None

    def rates(
        self, dynamics: Dynamics, T: jax.Array, s: jax.Array, z: jax.Array
    ) -> tuple[jax.Array, ...]:
        """T (f, -divergence, integrands...) at t = T s."""
        f, divergence, cotangent = self._derivatives(dynamics, T * s, z)
        integrands = [INTEGRANDS[name](f, cotangent) for name in self.regularizers]
        return (T * f, -T * divergence, *(T * rate for rate in integrands))

    def _derivatives(
        self, dynamics: Dynamics, t: jax.Array, z: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """f, its divergence, and eps^T J if a regularizer reads it."""
        wants_cotangent = not NEEDS_COTANGENT.isdisjoint(self.regularizers)
        if self.trace == "exact":
            if not wants_cotangent:
                return *dynamics.value_and_trace(t, z), None
            f, columns = dynamics.value_and_tangents(t, z, _basis(z))
            cotangent = jnp.einsum("kbd,bd->bk", columns, self._eps())
            return f, jnp.einsum("kbk->b", columns), cotangent
        eps = self._eps()
        if wants_cotangent:
            f, cotangent = dynamics.value_and_cotangent(t, z, eps)
            return f, jnp.sum(cotangent * eps, axis=1), cotangent
        f, tangents = dynamics.value_and_tangents(t, z, eps[None])
        return f, jnp.sum(tangents[0] * eps, axis=1), None

    def _eps(self) -> jax.Array:
        if self.probe is None:
            raise BackendError("the batch has no probe, but the trace or a regularizer needs one")
        return self.probe
