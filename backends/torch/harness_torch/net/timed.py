"""The field of a block at examples that have times of their own, as flow matching needs it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from harness.architecture.transforms import Block
from harness.trial import ModelSpec
from harness_torch.net.layers import layers_at_times
from harness_torch.net.net import by_layer
from harness_torch.net.nonlinearities import nonlinearity

__all__ = ["value_at_times"]


def value_at_times(
    model: ModelSpec, block: Block, arrays: Mapping[str, Tensor], t: Tensor, z: Tensor
) -> Tensor:
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
    act = nonlinearity(model.nonlinearity, arrays.get("swish_beta"))
    *hidden, last = layers_at_times(model.layer, block.layers, by_layer(block, arrays), t)
    h = z
    for apply in hidden:
        h = act.value(apply(h))
    f = last(h)
    return f - z if model.residual else f
