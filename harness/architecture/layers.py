"""The arrays of one layer of the dynamics, by the name of its kind.

At a time t every layer is affine in h, h -> A(t) * h + c(t); * is a product with a matrix
[out, in] or a convolution with a kernel [out, in, k, k], transposed or not. The kinds, after
FFJORD's released code (lib/layers/diffeq_layers), where that is broken as it was meant; with
g = sigmoid(gate_weight t + gate_bias):

    ignore        A = W                   c = b
    concat        A = W                   c = b + t * w, w the weights of a constant channel, the
                  first of the stored weight
    concat_v2     A = W                   c = b + time_weight t
    squash        A = g W                 c = g b
    concatsquash  A = g W                 c = g b + time_weight t
    concatcoord   as concat; a convolution has three more channels, after those of h: the time,
                  the row and the column, counted from 0
    hyper         A, c the output of a net of t: linear layers have one hidden layer of 8 tanh
                  units, convolutions none; the bias comes first, then the weights
    blend         A = (1 - t) W0 + t W1   c = (1 - t) b0 + t b1

A constant channel meets the zero padding of a convolution like any other, so its c varies over
the image near the edges. Initial values are those of PyTorch's modules: uniform within
1 / sqrt(fan-in) for weights and biases, where the fan-in of a transposed convolution is
out * k * k; a hypernet has zero weights and biases N(0, 0.01^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from harness.architecture.transforms import LayerShape
from harness.trial import LayerName

__all__ = ["HYPERNET_WIDTH", "ArraySpec", "extra_channels", "layer_arrays"]

HYPERNET_WIDTH = 8
"""Hidden units of the hypernet of a linear `hyper` layer."""


@dataclass(frozen=True)
class ArraySpec:
    """One named array of a model.

    Arguments:
        name: Portable name, e.g. `block0/layer1/weight`; the name in checkpoints.
        shape: Shape; a weight is [out, in], a kernel [out, in, k, k].
        trainable: False for a buffer.
        counted: Part of the parameter count that papers print.
        bound: Initial values are uniform on (-bound, bound), unless it is None.
        std: They are normal with this deviation, unless it is None.
        unit: They are normal, scaled to a vector of norm 1.
        value: The initial constant, if none of the above.
    """

    name: str
    shape: tuple[int, ...]
    trainable: bool = True
    counted: bool = True
    bound: float | None = None
    std: float | None = None
    unit: bool = False
    value: float = 0.0


def extra_channels(layer: LayerName, shape: LayerShape) -> int:
    """Input channels beyond those of h: none, the time, or the time and two coordinates."""
    if layer == "concatcoord" and shape.stride is not None:
        return 3
    return 1 if layer in ("concat", "concatcoord") else 0


def layer_arrays(layer: LayerName, shape: LayerShape, prefix: str) -> Iterator[ArraySpec]:
    """Returns the arrays of one layer, named `<prefix>/...`."""
    return _ARRAYS[layer](layer, shape, prefix)


def _affine(
    layer: LayerName, shape: LayerShape, prefix: str, suffix: str = ""
) -> Iterator[ArraySpec]:
    """`weight` and `bias`."""
    out, width = shape.outputs[0], shape.inputs[0] + extra_channels(layer, shape)
    area = shape.kernel**2
    kernel = () if shape.stride is None else (shape.kernel, shape.kernel)
    bound = 1 / math.sqrt((out if shape.stride == -2 else width) * area)
    yield ArraySpec(f"{prefix}/weight{suffix}", (out, width, *kernel), bound=bound)
    yield ArraySpec(f"{prefix}/bias{suffix}", (out,), bound=bound)


def _gate(shape: LayerShape, prefix: str) -> Iterator[ArraySpec]:
    """A linear map of one input, the time: its fan-in is 1."""
    yield ArraySpec(f"{prefix}/gate_weight", shape.outputs[:1], bound=1.0)
    yield ArraySpec(f"{prefix}/gate_bias", shape.outputs[:1], bound=1.0)


def _time(shape: LayerShape, prefix: str) -> Iterator[ArraySpec]:
    yield ArraySpec(f"{prefix}/time_weight", shape.outputs[:1], bound=1.0)


def _concat_v2(layer: LayerName, shape: LayerShape, prefix: str) -> Iterator[ArraySpec]:
    yield from _affine(layer, shape, prefix)
    yield from _time(shape, prefix)


def _squash(layer: LayerName, shape: LayerShape, prefix: str) -> Iterator[ArraySpec]:
    yield from _affine(layer, shape, prefix)
    yield from _gate(shape, prefix)


def _concatsquash(layer: LayerName, shape: LayerShape, prefix: str) -> Iterator[ArraySpec]:
    yield from _squash(layer, shape, prefix)
    yield from _time(shape, prefix)


def _blend(layer: LayerName, shape: LayerShape, prefix: str) -> Iterator[ArraySpec]:
    yield from _affine(layer, shape, prefix, "0")
    yield from _affine(layer, shape, prefix, "1")


def _hyper(layer: LayerName, shape: LayerShape, prefix: str) -> Iterator[ArraySpec]:
    out = shape.outputs[0]
    size = out + out * shape.inputs[0] * shape.kernel**2
    widths = [HYPERNET_WIDTH, size] if shape.stride is None else [size]
    for index, width in enumerate(widths):
        # The first map has one input, the time.
        weight = (width, HYPERNET_WIDTH) if index else (width,)
        yield ArraySpec(f"{prefix}/hyper{index}_weight", weight)
        yield ArraySpec(f"{prefix}/hyper{index}_bias", (width,), std=0.01)


_ARRAYS: Mapping[LayerName, Callable[[LayerName, LayerShape, str], Iterator[ArraySpec]]] = {
    "blend": _blend,
    "concat": _affine,
    "concat_v2": _concat_v2,
    "concatcoord": _affine,
    "concatsquash": _concatsquash,
    "hyper": _hyper,
    "ignore": _affine,
    "squash": _squash,
}
