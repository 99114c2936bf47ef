"""The MLP f(t, z) of one block with its forward- and reverse-mode derivatives.

All passes are plain differentiable operations, so one autodiff pass gives the gradient of anything
built from them. The released FFJORD code differentiates an autodiff pass instead.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from harness.trial import LayerName, NonlinearityName
from harness_jax.layers import LAYERS, NONLINEARITIES, Affine

__all__ = ["Dynamics"]


class Dynamics:
    """f(t, z), an MLP whose layers see the time.

    Passes at the same t and z share their common part: the compiler merges equal expressions.

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
        self._layer = LAYERS[layer]
        self._act = NONLINEARITIES[nonlinearity]
        by_layer: dict[str, dict[str, jax.Array]] = {}
        for name, array in arrays.items():
            place, _, kind = name.partition("/")
            by_layer.setdefault(place, {})[kind] = array
        self._arrays = [by_layer[f"layer{i}"] for i in range(len(by_layer))]

    def _at(self, t: jax.Array) -> list[Affine]:
        return [self._layer(arrays, t) for arrays in self._arrays]

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
        tangents = last.tangent(v)
        return last.apply(h), jnp.broadcast_to(tangents, (len(v), *z.shape))

    def value_and_trace(self, t: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """f(t, z) [batch, D] and Tr(df/dz) [batch], with one tangent a dimension."""
        basis = jnp.eye(z.shape[1], dtype=z.dtype)[:, None, :]
        h, v, last = self._to_last_layer(t, z, basis)
        # Only the diagonal of the last product is wanted: entry k of A v_k.
        trace = jnp.einsum("kbh,kh->b", v, last.matrix)
        return last.apply(h), jnp.broadcast_to(trace, z.shape[:1])

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
        return z, v, last
