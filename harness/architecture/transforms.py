"""The shapes of a flow: its transforms in the order of computation, the layers of each block."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from harness.errors import BackendError
from harness.trial import ModelSpec

__all__ = [
    "Block",
    "FactorOut",
    "LayerShape",
    "Norm",
    "Shape",
    "Squeeze",
    "Transform",
    "blocks_of",
    "transforms",
]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerShape:
    """Shapes of one layer, without the batch.

    Arguments:
        inputs: (features,), or (channels, height, width) of a convolution.
        outputs: In the same form.
        stride: 1, 2, or -2 for a transposed convolution; None for a layer that is none.
    """

    inputs: Shape
    outputs: Shape
    stride: int | None = None

    @property
    def kernel(self) -> int:
        """Side of the kernel; 1 for a layer that is no convolution. The padding is always 1."""
        return 1 if self.stride is None else 3 if self.stride == 1 else 4


@dataclass(frozen=True)
class Block:
    """An ODE block.

    Arguments:
        index: Its number in the flow; its arrays are named `block<index>/...`.
        shape: Shape of its state; (D,) for a net that is not convolutional.
        layers: Layers of its dynamics.
    """

    index: int
    shape: Shape
    layers: tuple[LayerShape, ...]

    @property
    def bottleneck(self) -> int:
        """The hidden layer after which the net is narrowest: 1 is the output of the first layer.

        Of equals the first counts. Raises BackendError for a net without hidden layers.
        """
        widths = [math.prod(layer.outputs) for layer in self.layers[:-1]]
        if not widths:
            raise BackendError("a net without hidden layers has no bottleneck")
        return 1 + widths.index(min(widths))

    @property
    def bottleneck_shape(self) -> Shape:
        """Shape of the state there."""
        return self.layers[self.bottleneck - 1].outputs


@dataclass(frozen=True)
class Norm:
    """A moving batch norm over the features or channels; its arrays are `norm<index>/...`."""

    index: int
    shape: Shape


@dataclass(frozen=True)
class Squeeze:
    """[C, H, W] -> [4C, H/2, W/2]: each 2x2 patch becomes four channels, the channel slowest, then
    the row and the column within the patch (as FFJORD's released code orders them).
    """

    shape: Shape


@dataclass(frozen=True)
class FactorOut:
    """The second half of the channels leaves the flow; the first half goes on.

    What leaves is flattened, and the base variable is its concatenation in the order of leaving.
    """

    shape: Shape


Transform = Block | FactorOut | Norm | Squeeze


def blocks_of(model: ModelSpec, event_shape: Shape) -> tuple[Block, ...]:
    """Returns the blocks among the transforms of a flow; errors as there."""
    return tuple(each for each in transforms(model, event_shape) if isinstance(each, Block))


def transforms(model: ModelSpec, event_shape: Shape) -> tuple[Transform, ...]:
    """Returns the transforms of a flow from data to base; an autoencoder's is over its latent.

    Raises:
        BackendError: The model does not fit data of this shape.
    """
    if model.posterior is not None:
        event_shape = (model.posterior.latent,)
    shape: Shape = event_shape if model.strides is not None else (math.prod(event_shape),)
    if model.strides is not None and len(shape) != 3:
        raise BackendError(
            f"a convolutional model needs data of shape (channels, height, width), not {shape}"
        )
    chain: list[Transform] = []
    blocks, norms = itertools.count(), itertools.count()

    def stack() -> None:
        for _ in range(model.blocks):
            chain.append(Block(next(blocks), shape, _layers(model, shape)))
            if model.batch_norm:
                chain.append(Norm(next(norms), shape))

    if model.batch_norm:
        chain.append(Norm(next(norms), shape))
    for _ in range(model.scales - 1):
        channels, height, width = shape
        if height % 2 or width % 2:
            raise BackendError(
                f"{model.scales} scales need an image that can be halved {model.scales - 1} "
                f"times; {event_shape[1]}x{event_shape[2]} comes down to {height}x{width}"
            )
        stack()
        chain.append(Squeeze(shape))
        shape = (4 * channels, height // 2, width // 2)
        stack()
        chain.append(FactorOut(shape))
        shape = (2 * channels, height // 2, width // 2)
    stack()
    return tuple(chain)


def _layers(model: ModelSpec, shape: Shape) -> tuple[LayerShape, ...]:
    strides = model.strides or (None,) * (len(model.hidden) + 1)
    layers, inputs = [], shape
    for channels, stride in zip((*model.hidden, shape[0]), strides, strict=True):
        outputs = (channels, *(_resized(side, stride) for side in inputs[1:]))
        layers.append(LayerShape(inputs, outputs, stride))
        inputs = outputs
    if inputs != shape:
        raise BackendError(
            f"strides {list(strides)} turn a state of shape {shape} into one of shape {inputs}; "
            "the dynamics must return the shape they were given"
        )
    return tuple(layers)


def _resized(side: int, stride: int | None) -> int:
    if stride == -2:
        return 2 * side
    return side // 2 if stride == 2 else side
