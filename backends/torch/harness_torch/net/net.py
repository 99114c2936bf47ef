"""The field f(t, z) of one block: a net whose layers see the time.

All passes are plain differentiable operations, so one autodiff pass gives the gradient of anything
built from them. The released FFJORD code differentiates an autodiff pass instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from harness.architecture.transforms import Block
from harness.errors import BackendError
from harness.trial import ModelSpec
from harness_torch.net.affine import Term
from harness_torch.net.amortized import amortized
from harness_torch.net.layers import Layers, make_layers
from harness_torch.net.linearization import Linearization
from harness_torch.net.nonlinearities import nonlinearity

__all__ = ["Net", "by_layer"]


def by_layer(block: Block, arrays: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The arrays of each layer of a block, by the last part of their names."""
    layer_arrays: list[dict[str, Tensor]] = [{} for _ in block.layers]
    for name, array in arrays.items():
        place, _, kind = name.partition("/")
        if kind:
            layer_arrays[int(place.removeprefix("layer"))][kind] = array
    return layer_arrays


class Net:
    """The field f(t, z) = net(t, z), less z if the model is residual.

    Arguments:
        model: The architecture.
        block: Shapes of the state and of the layers.
        arrays: Arrays of the block by portable name without the block, e.g. `layer0/weight`, and
            `swish_beta` and `condition` [batch, numbers] where the model has them.
    """

    def __init__(self, model: ModelSpec, block: Block, arrays: Mapping[str, Tensor]) -> None:
        self.block, self.residual = block, model.residual
        self.act = nonlinearity(model.nonlinearity, arrays.get("swish_beta"))
        self.layers = self._made_layers(model, block, arrays)

    @staticmethod
    def _made_layers(model: ModelSpec, block: Block, arrays: Mapping[str, Tensor]) -> Layers:
        own = by_layer(block, arrays)
        shared = make_layers(model.layer, block.layers, own) if own[0] else None
        if model.posterior is not None:
            return amortized(model.posterior, block, shared, arrays.get("condition"))
        if shared is None:
            raise BackendError("a net without arrays")
        return shared

    def value(self, t: Tensor, z: Tensor) -> Tensor:
        """The field f at t, 0-dimensional, and z [batch, *shape]; [batch, *shape]."""
        *hidden, last = self.layers.at(t)
        h = z
        for layer in hidden:
            h = self.act.value(layer.apply(h))
        f = last.apply(h)
        return f - z if self.residual else f

    def at(self, t: Tensor, z: Tensor) -> Linearization:
        """The field f and its Jacobian in z at t, 0-dimensional, and z [batch, *shape]."""
        return Linearization(self.layers.at(t), self.act, z, residual=self.residual)

    def series(self, t: Tensor, order: int) -> list[list[Term]]:
        """The Taylor coefficients 1..order of every layer in time, by order."""
        return self.layers.series(t, order)
