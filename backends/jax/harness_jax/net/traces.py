"""Hutch++, a variance-reduced estimate of a trace (R. Meyer, C. Musco, C. Musco, D. Woodruff,
Hutch++: optimal stochastic trace estimation, 2021, https://arxiv.org/abs/2010.09649, algorithm 1).

With Q an orthonormal basis of the space of J S and P = I - Q Q^T the estimate is
Tr(Q^T J Q) + mean over g of (P g)^T J (P g), g independent of S. Its mean over g is the trace
whatever Q is, so Q is held fixed in the gradient: that is an unbiased estimate of the gradient of
the trace, and needs no derivative of the basis, which J of low rank does not have.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["hutch_plus_plus"]


def hutch_plus_plus(product: Callable[[jax.Array], jax.Array], probes: jax.Array) -> jax.Array:
    """The estimate for each example, [batch], with 3 k products.

    Arguments:
        product: v -> J v, both [vectors, batch, *shape].
        probes: The k vectors of S, then the k vectors g, [2 k, batch, *shape].
    """
    flat = (*probes.shape[:2], -1)
    sketch, rest = jnp.split(probes, 2)
    g = rest.reshape(*rest.shape[:2], -1)
    basis = _orthonormal(lax.stop_gradient(product(sketch)).reshape(g.shape))
    along = jnp.einsum("ibd,jbd->ijb", basis, g)
    left = g - jnp.einsum("ijb,ibd->jbd", along, basis)
    vectors = jnp.concatenate([basis, left])
    products = product(vectors.reshape(probes.shape)).reshape(flat)
    within, beside = jnp.split(jnp.sum(vectors * products, axis=2), 2)
    return jnp.sum(within, axis=0) + jnp.mean(beside, axis=0)


def _orthonormal(vectors: jax.Array) -> jax.Array:
    """An orthonormal basis of the space of the vectors of each example, [k, batch, D]; a zero in
    the place of a vector that the ones before it span, to half of the digits.

    Gram and Schmidt's way, each vector twice, which is enough (W. Kahan, in B. Parlett, The
    symmetric eigenvalue problem, 1980, 6.9).
    """
    tolerance = float(np.finfo(vectors.dtype).eps) ** 0.5
    basis: list[jax.Array] = []
    for vector in vectors:
        rest = vector
        for other in basis * 2:
            rest = rest - jnp.sum(rest * other, axis=1, keepdims=True) * other
        size = jnp.linalg.norm(rest, axis=1, keepdims=True)
        new = size > tolerance * jnp.linalg.norm(vector, axis=1, keepdims=True)
        basis.append(jnp.where(new, rest / jnp.where(new, size, 1), 0))
    return jnp.stack(basis)
