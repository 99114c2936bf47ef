"""The field of a block at a point: its value, products with its Jacobian, its trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from harness.architecture.transforms import Block
from harness_jax.net.affine import Map

__all__ = ["JacobianSums", "Linearization"]

CHUNK = 2**25
"""Most entries of one hidden layer's tangents at a time, 128 MiB in float32. Shapes alone decide
how the unit vectors are grouped, so the numbers are the same on every machine."""


class JacobianSums(NamedTuple):
    """Of the Jacobian of each example, [batch] each.

    Arguments:
        trace: sum_i J_ii.
        diagonal: sum_i J_ii^2.
        rest: sum_{i != j} J_ij^2.
        first_column: sum_i J_i0^2.
        other_columns: sum_{i, j > 0} J_ij^2.
    """

    trace: jax.Array
    diagonal: jax.Array
    rest: jax.Array
    first_column: jax.Array
    other_columns: jax.Array


class Linearization:
    """The field f at one time and one batch of states and its Jacobian J: every derivative is a
    pass through the layers and the slopes of the nonlinearities between them.

    Arguments:
        f: The value, [batch, *shape].
        layers: All layers at that time.
        slopes: Derivatives of the nonlinearities between them.
        block: Shapes.
        residual: f is the net less z, and J that of the net less the identity.
    """

    def __init__(
        self,
        f: jax.Array,
        layers: Sequence[Map],
        slopes: Sequence[jax.Array],
        block: Block,
        *,
        residual: bool,
    ) -> None:
        self.f = f
        self._layers, self._slopes = layers, slopes
        self._block, self._residual = block, residual

    def tangent(self, v: jax.Array) -> jax.Array:
        """The product J v, [..., batch, *shape] for v of that shape; all examples share a v whose
        batch is 1.
        """
        out = self.net_tangent(v)
        return out - v if self._residual else out

    def net_tangent(self, v: jax.Array) -> jax.Array:
        """The product J v for the Jacobian of the net alone."""
        return self._layers[-1].tangent(self._push(v))

    def cotangent(self, u: jax.Array) -> jax.Array:
        """The product u^T J, [batch, *shape] for u of that shape; reverse mode written out."""
        out = self._layers[-1].cotangent(u)
        for layer, slope in zip(reversed(self._layers[:-1]), reversed(self._slopes), strict=True):
            out = layer.cotangent(out * slope)
        return out - u if self._residual else out

    def trace(self) -> jax.Array:
        """Tr J, [batch], with one tangent a dimension."""

        def sums(basis: jax.Array) -> jax.Array:
            # The sum of <A^T e_i, v_i>, v_i the tangent before the last layer, A its matrix: all
            # examples share the first factor, unless weights are their own.
            tangents = self._flat(self._push(basis))
            rows = self._flat(self._layers[-1].cotangent(basis))
            if rows.shape[1] == 1:
                traces = jnp.einsum("kbh,kh->b", tangents, rows[:, 0])
            else:
                traces = jnp.sum(tangents * rows, axis=(0, 2))
            return jnp.broadcast_to(traces, (len(self.f),))

        return self.whole(self._over_basis(sums))

    def bottleneck(self, eps: jax.Array, split: int) -> jax.Array:
        """The estimate eps^T (dh/dz dg/dh) eps of Tr J, [batch], for the net g(h(z)).

        Arguments:
            eps: Probe in the shape of h, [batch, ...], or several, [probes, batch, ...].
            split: h is the state after so many layers.

        References:
            W. Grathwohl et al., FFJORD, 2018, https://arxiv.org/abs/1810.01367, section 3.1.1.
        """
        v = self._layers[-1].tangent(self._push(eps, first=split))
        v = self._push(v, last=split)
        return self.whole(self.inner(eps, v))

    def inner(self, u: jax.Array, v: jax.Array) -> jax.Array:
        """Inner products of the examples, [batch]; of [probes, batch, ...] their mean over the
        probes.
        """
        products = jnp.sum(self._flat(u * v), axis=-1)
        return products if products.ndim == 1 else jnp.mean(products, axis=0)

    def whole(self, trace: jax.Array) -> jax.Array:
        """The trace of J from that of the net: where f is the net less z, D less."""
        return trace - math.prod(self._block.shape) if self._residual else trace

    def jacobian_sums(self) -> JacobianSums:
        """Sums over the full Jacobian, column by column."""

        def sums(basis: jax.Array) -> JacobianSums:
            columns = jnp.broadcast_to(self.tangent(basis), (len(basis), *self.f.shape))
            diagonal = jnp.sum(self._flat(columns * basis), axis=-1)
            rest = columns * (1 - basis)
            squares = jnp.sum(self._flat(columns * columns), axis=2)
            first = self._flat(basis)[..., 0]
            return JacobianSums(
                jnp.sum(diagonal, axis=0),
                jnp.sum(diagonal * diagonal, axis=0),
                jnp.sum(self._flat(rest * rest), axis=(0, 2)),
                jnp.sum(first * squares, axis=0),
                jnp.sum((1 - first) * squares, axis=0),
            )

        total: JacobianSums = self._over_basis(sums)
        return total

    def _push(self, v: jax.Array, first: int = 0, last: int | None = None) -> jax.Array:
        """Tangents v through the hidden layers from `first` to before `last`."""
        hidden = list(zip(self._layers[:-1], self._slopes, strict=True))
        for layer, slope in hidden[first:last]:
            v = layer.tangent(v) * slope
        return v

    def _flat(self, x: jax.Array) -> jax.Array:
        """[..., *shape] -> [..., D], for the shape of the state or of a hidden layer."""
        return x.reshape(*x.shape[: x.ndim - len(self._block.shape)], -1)

    def _over_basis(self, sums: Callable[[jax.Array], Any]) -> Any:  # noqa: ANN401
        """Adds up `sums` of all unit vectors [k, 1, *shape], as many at a time as fit in `CHUNK`.

        Memory stays bounded in the backward pass, too, which computes each chunk again.
        """
        shape, dtype = self._block.shape, self.f.dtype
        size = math.prod(shape)
        widest = max(math.prod(layer.outputs) for layer in self._block.layers)
        most = max(1, CHUNK // (len(self.f) * widest))
        if most >= size:
            return sums(jnp.eye(size, dtype=dtype).reshape(size, 1, *shape))
        # As many chunks as need be, all of one size.
        chunk = math.ceil(size / math.ceil(size / most))

        @jax.checkpoint
        def add(total: Any, first: jax.Array) -> tuple[Any, None]:  # noqa: ANN401
            # Beyond the last unit vector come zeros, which add nothing.
            basis = jax.nn.one_hot(first + jnp.arange(chunk), size, dtype=dtype)
            share = sums(basis.reshape(chunk, 1, *shape))
            return jax.tree.map(jnp.add, total, share), None

        basis = jax.ShapeDtypeStruct((chunk, 1, *shape), dtype)  # type: ignore[no-untyped-call]
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(sums, basis))
        total, _ = lax.scan(add, zero, jnp.arange(0, size, chunk))
        return total
