"""The net of one block, whose layers see the time, and its derivatives at a point.

All passes are plain differentiable operations, so one autodiff pass gives the gradient of
anything built from them. The released FFJORD code differentiates an autodiff pass instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from harness.architecture.transforms import Block
from harness.errors import BackendError
from harness.trial import ModelSpec
from harness_torch.net.amortized import amortized
from harness_torch.net.layers import Layers, make_layers
from harness_torch.net.linearization import Linearization
from harness_torch.net.nonlinearities import nonlinearity

__all__ = ["Net"]


class Net:
    """A net as a function of t and z. With `residual` the dynamics are the net less z.

    Arguments:
        model: The architecture.
        block: Its shapes.
        arrays: Arrays of the block by portable name without the block, e.g. `layer0/weight`, and
            `swish_beta` and `condition` [batch, numbers] where the model has them.
    """

    def __init__(self, model: ModelSpec, block: Block, arrays: Mapping[str, Tensor]) -> None:
        self.act = nonlinearity(model.nonlinearity, arrays.get("swish_beta"))
        self.layers = self._layers(model, block, arrays)

    @staticmethod
    def _layers(model: ModelSpec, block: Block, arrays: Mapping[str, Tensor]) -> Layers:
        by_layer: list[dict[str, Tensor]] = [{} for _ in block.layers]
        for name, array in arrays.items():
            place, _, kind = name.partition("/")
            if kind:
                by_layer[int(place.removeprefix("layer"))][kind] = array
        shared = make_layers(model.layer, block.layers, by_layer) if by_layer[0] else None
        if model.posterior is not None:
            return amortized(model.posterior, block, shared, arrays.get("condition"))
        if shared is None:
            raise BackendError("a net without arrays")
        return shared

    def value(self, t: Tensor, z: Tensor) -> Tensor:
        """The net at t and z [batch, ...]."""
        *hidden, last = self.layers.at(t)
        for layer in hidden:
            z = self.act.value(layer.apply(z))
        return last.apply(z)

    def at(self, t: Tensor, z: Tensor) -> Linearization:
        """The net and its derivatives there."""
        return Linearization(self.layers.at(t), self.act, z)
