"""The field of a block at examples that have times of their own, as flow matching needs it."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from harness.architecture.transforms import Block
from harness.trial import ModelSpec
from harness_jax.net.layers import layers_at_times
from harness_jax.net.net import BETA, by_layer
from harness_jax.net.nonlinearities import NONLINEARITIES

__all__ = ["value_at_times"]


def value_at_times(
    model: ModelSpec, block: Block, arrays: Mapping[str, jax.Array], t: jax.Array, z: jax.Array
) -> jax.Array:
    """The field f(t_i, z_i) of each example; what `Net.value` is where all t_i are equal.

    Arguments:
        model: The architecture, no autoencoder's.
        block: Shapes of the state and of the layers.
        arrays: Those of `Net`.
        t: [batch].
        z: [batch, *shape].

    Returns:
        [batch, *shape].
    """
    act, beta = NONLINEARITIES[model.nonlinearity], arrays.get(BETA)
    *hidden, last = layers_at_times(model.layer, by_layer(block, arrays), block.layers, t)
    h = z
    for apply in hidden:
        h, _ = act(apply(h), beta)
    f = last(h)
    return f - z if model.residual else f
