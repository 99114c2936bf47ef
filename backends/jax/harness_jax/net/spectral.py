"""Spectral norm: weights divided by their largest singular value (docs/numerics.md, section 4).

References:
    T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida: Spectral normalization for generative
    adversarial networks, 2018, https://arxiv.org/abs/1802.05957.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

from harness.architecture.arrays import SPECTRAL

__all__ = ["divided"]


def divided(
    arrays: Mapping[str, jax.Array], *, training: bool
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Divides every weight of a block by its largest singular value.

    Arguments:
        arrays: Arrays of the block, by name without it.
        training: Turn the power iteration once before.

    Returns:
        The arrays without the buffers, and the new buffers; in evaluation none.
    """
    weights: dict[str, jax.Array] = {}
    buffers: dict[str, jax.Array] = {}
    for name, weight in arrays.items():
        if name.endswith(("_u", "_v")):
            continue
        weights[name] = weight
        if name.rpartition("/")[2] not in SPECTRAL:
            continue
        if weight.ndim == 1:
            weights[name] = weight / jnp.sqrt(jnp.sum(weight * weight))
            continue
        matrix = weight.reshape(len(weight), -1)
        u, v = arrays[f"{name}_u"], arrays[f"{name}_v"]
        if training:
            fixed = lax.stop_gradient(matrix)
            v = _unit(u @ fixed)
            u = _unit(fixed @ v)
            buffers |= {f"{name}_u": u, f"{name}_v": v}
        weights[name] = weight / (u @ matrix @ v)
    return weights, buffers


def _unit(vector: jax.Array) -> jax.Array:
    return vector / jnp.sqrt(jnp.sum(vector * vector))
