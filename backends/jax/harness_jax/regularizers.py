"""Integrands of the regularizers, by name; each is integrated along the path of every example.

References:
    C. Finlay, J.-H. Jacobsen, L. Nurbekyan, A. Oberman: How to train your neural ODE: the world
    of Jacobian and kinetic regularization, 2020, https://arxiv.org/abs/2002.02798. The formulas
    are those of its code, which take means over dimensions where the paper has sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from harness.trial import RegularizerName

__all__ = ["INTEGRANDS", "NEEDS_COTANGENT", "jacobian", "kinetic"]

NEEDS_COTANGENT = frozenset({"rnode.jacobian"})
"""Regularizers that are functions of eps^T J."""


def kinetic(f: jax.Array) -> jax.Array:
    """1/2 mean_d f_d^2 of the velocity f [batch, D]; [batch]."""
    return 0.5 * jnp.mean(f * f, axis=-1)


def jacobian(cotangent: jax.Array) -> jax.Array:
    """mean_d (eps^T J)_d^2 of the row eps^T J [batch, D]; [batch].

    Its mean over eps ~ N(0, I) is the squared Frobenius norm of J, over D.
    """
    return jnp.mean(cotangent * cotangent, axis=-1)


def _of_cotangent(f: jax.Array, cotangent: jax.Array | None) -> jax.Array:
    del f
    if cotangent is None:
        raise ValueError("the integrand reads eps^T J")
    return jacobian(cotangent)


INTEGRANDS: Mapping[RegularizerName, Callable[[jax.Array, jax.Array | None], jax.Array]] = {
    "rnode.jacobian": _of_cotangent,
    "rnode.kinetic": lambda f, cotangent: kinetic(f),
}
"""By name: (f [batch, D], eps^T J [batch, D]) -> integrand [batch]. The second argument is read
only by those in `NEEDS_COTANGENT`."""
