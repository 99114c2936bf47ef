"""Layers to which every example adds something of its own: the posterior of an autoencoder
(harness.architecture.autoencoder.amortized_sizes says what and in which order).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import jax
import jax.numpy as jnp

from harness.architecture.autoencoder import amortized_sizes
from harness.architecture.transforms import Block
from harness.errors import BackendError
from harness.trial import Posterior
from harness_jax.net.affine import Affine, Map

__all__ = ["Identity", "LowRank", "PerExample", "amortized"]


class PerExample(NamedTuple):
    """A product with a matrix of each example.

    Arguments:
        matrix: A^T, [batch, in, out].
        shift: c, [batch, out].
    """

    matrix: jax.Array
    shift: jax.Array

    def apply(self, h: jax.Array) -> jax.Array:
        """The layer A h + c, [batch, in] -> [batch, out]."""
        return _times(h, self.matrix) + self.shift

    def tangent(self, v: jax.Array) -> jax.Array:
        """The product A v, [..., batch, in] -> [..., batch, out]."""
        return _times(v, self.matrix)

    def cotangent(self, u: jax.Array) -> jax.Array:
        """The product A^T u, [..., batch, out] -> [..., batch, in]."""
        return _times(u, jnp.swapaxes(self.matrix, 1, 2))


class Identity:
    """What follows the last nonlinearity of a net that ends with one."""

    def apply(self, h: jax.Array) -> jax.Array:
        """The input."""
        return h

    def tangent(self, v: jax.Array) -> jax.Array:
        """The tangents."""
        return v

    def cotangent(self, u: jax.Array) -> jax.Array:
        """The cotangents."""
        return u


class LowRank(NamedTuple):
    """A shared layer plus a change of low rank for each example; without U and V a bias alone.

    Arguments:
        shared: What all examples share.
        shift: Added to the output, [batch, out].
        U: [batch, in, rank].
        V: [batch, rank, out].
    """

    shared: Affine
    shift: jax.Array
    U: jax.Array | None = None
    V: jax.Array | None = None

    def apply(self, h: jax.Array) -> jax.Array:
        """The shared layer of h [batch, in] plus h U V plus the shift, [batch, out]."""
        return self.shared.apply(h) + self._change(h) + self.shift

    def tangent(self, v: jax.Array) -> jax.Array:
        """The product A v, [..., batch, in] -> [..., batch, out]."""
        return self.shared.tangent(v) + self._change(v)

    def cotangent(self, u: jax.Array) -> jax.Array:
        """The product A^T u, [..., batch, out] -> [..., batch, in]."""
        product = self.shared.cotangent(u)
        if self.U is None or self.V is None:
            return product
        back = _times(u, jnp.swapaxes(self.V, 1, 2))
        return product + _times(back, jnp.swapaxes(self.U, 1, 2))

    def _change(self, h: jax.Array) -> jax.Array | float:
        if self.U is None or self.V is None:
            return 0.0
        return _times(_times(h, self.U), self.V)


def amortized(
    posterior: Posterior,
    block: Block,
    shared: Callable[[jax.Array], Sequence[Affine]],
    condition: jax.Array | None,
) -> Callable[[jax.Array], Sequence[Map]]:
    """The layers of a block as the examples make them, as functions of the time.

    Arguments:
        posterior: What an example gives.
        block: Shapes.
        shared: The layers that all examples share; not called for `hyper`.
        condition: What each example gives, [batch, numbers].

    Raises:
        BackendError: There is no condition, but the dynamics need one.
    """
    if posterior.amortization == "plain":
        return shared
    if condition is None:
        raise BackendError("the dynamics of this posterior need what an example gives to them")
    parts = _split(condition, amortized_sizes(posterior, block))
    if posterior.amortization == "hyper":
        return _hyper(block, parts, posterior.nonlinear_output)
    changes: list[tuple[jax.Array, ...]] = []
    for shape, part in zip(block.layers, parts, strict=True):
        inside, out, rank = shape.inputs[0], shape.outputs[0], posterior.rank
        if posterior.amortization == "bias":
            changes.append((part,))
            continue
        U, V, bias = _split(part, (inside * rank, rank * out, out))
        changes.append((bias, U.reshape(-1, inside, rank), V.reshape(-1, rank, out)))

    def at(t: jax.Array) -> Sequence[Map]:
        return [LowRank(own, *change) for own, change in zip(shared(t), changes, strict=True)]

    return at


def _hyper(
    block: Block, parts: Sequence[jax.Array], nonlinear_output: bool
) -> Callable[[jax.Array], Sequence[Map]]:
    """Layers whose every weight is an example's; after them the identity, if a nonlinearity is to
    come after the last of them.
    """
    end = [Identity()] if nonlinear_output else []
    layers = []
    for shape, part in zip(block.layers, parts, strict=True):
        inside, out = shape.inputs[0], shape.outputs[0]
        bias, weight = _split(part, (out, (inside + 1) * out))
        matrix = weight.reshape(-1, inside + 1, out)
        layers.append((bias, matrix[:, 0], matrix[:, 1:]))

    def at(t: jax.Array) -> Sequence[Map]:
        own = [PerExample(matrix, bias + t * time) for bias, time, matrix in layers]
        return [*own, *end]

    return at


def _split(numbers: jax.Array, sizes: Sequence[int]) -> list[jax.Array]:
    return jnp.split(numbers, list(accumulate(sizes[:-1])), axis=1)


def _times(h: jax.Array, matrices: jax.Array) -> jax.Array:
    """Row b of h, [..., batch or 1, in], times matrix b [batch, in, out]."""
    if h.shape[-2] != len(matrices):
        h = jnp.broadcast_to(h, (*h.shape[:-2], len(matrices), h.shape[-1]))
    return jnp.einsum("...bi,bio->...bo", h, matrices)
