"""The variational autoencoder around a flow in its posterior: shapes and arrays of its nets.

The gated convolutional nets of R. van den Berg et al., Sylvester normalizing flows for variational
inference, 2018 (https://arxiv.org/abs/1803.05649), which FFJORD's section 4.3 uses. A gated layer
is conv(h) * sigmoid(conv_gate(h)). The encoder ends in 256 features; from these come, all linear,
the mean of z0, the softplus of its variance (kept within 0.01 and 7 for categorical data), and
what each example adds to the dynamics of each block (`amortized_sizes`). The decoder mirrors it; a
convolution then gives the logits of a Bernoulli, or two give those of 256 levels for each pixel
(levels slowest, then channels).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from harness.architecture.layers import ArraySpec
from harness.architecture.transforms import Block, Shape
from harness.errors import BackendError
from harness.interface import DataInfo
from harness.trial import ModelSpec, Posterior

__all__ = [
    "FEATURES",
    "LEVELS",
    "ConvShape",
    "amortized_sizes",
    "autoencoder_arrays",
    "decoder_shapes",
    "encoder_shapes",
    "head_shapes",
]

FEATURES = 256
"""Width of the encoder's end."""
LEVELS = 256
"""Levels of a categorical pixel."""


@dataclass(frozen=True)
class ConvShape:
    """A convolution, without the batch.

    Arguments:
        inputs: Channels.
        outputs: Channels.
        kernel: (height, width).
        stride: Along both axes.
        padding: Along both axes.
        transposed: A transposed convolution; its kernel is stored [out, in, height, width] too.
        output_padding: Of a transposed one.
    """

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: int = 0
    transposed: bool = False
    output_padding: int = 0


def _last_kernel(event_shape: Shape) -> tuple[int, int]:
    if len(event_shape) != 3 or event_shape[1] % 4 or event_shape[2] % 4:
        raise BackendError(
            "the autoencoder needs images of shape (channels, height, width) whose sides are "
            f"multiples of 4, not {event_shape}"
        )
    return event_shape[1] // 4, event_shape[2] // 4


def encoder_shapes(event_shape: Shape) -> tuple[ConvShape, ...]:
    """The gated convolutions of the encoder, [C, H, W] -> [256, 1, 1].

    Raises:
        BackendError: The data are no images whose sides are multiples of 4.
    """
    five, last = (5, 5), _last_kernel(event_shape)
    return (
        ConvShape(event_shape[0], 32, five, 1, 2),
        ConvShape(32, 32, five, 2, 2),
        ConvShape(32, 64, five, 1, 2),
        ConvShape(64, 64, five, 2, 2),
        ConvShape(64, 64, five, 1, 2),
        ConvShape(64, FEATURES, last),
    )


def decoder_shapes(latent: int, event_shape: Shape) -> tuple[ConvShape, ...]:
    """The gated transposed convolutions of the decoder, [latent, 1, 1] -> [32, H, W]."""
    five, last = (5, 5), _last_kernel(event_shape)
    return (
        ConvShape(latent, 64, last, transposed=True),
        ConvShape(64, 64, five, 1, 2, transposed=True),
        ConvShape(64, 32, five, 2, 2, transposed=True, output_padding=1),
        ConvShape(32, 32, five, 1, 2, transposed=True),
        ConvShape(32, 32, five, 2, 2, transposed=True, output_padding=1),
        ConvShape(32, 32, five, 1, 2, transposed=True),
    )


def head_shapes(data: DataInfo) -> tuple[ConvShape, ...]:
    """The convolutions from the decoder's end to the logits; they have no gates."""
    channels = data.event_shape[0]
    if data.categorical:
        return (
            ConvShape(32, LEVELS, (5, 5), 1, 2),
            ConvShape(LEVELS, LEVELS * channels, (1, 1)),
        )
    return (ConvShape(32, channels, (1, 1)),)


def amortized_sizes(posterior: Posterior, block: Block) -> tuple[int, ...]:
    """How many numbers an example gives each layer of a block's dynamics.

    `plain`: none. `bias`: [out], added to the layer's output. `low_rank`: U [in, rank], V [rank,
    out], then a bias [out]; the layer is its own plus h U V + bias. `hyper`: a bias [out], then
    weights [in + 1, out] whose first row belongs to the time; they are the layer, which must be of
    kind `concat` and has no arrays of its own. (The released code applies the nonlinearity after
    the last `hyper` layer, too: `Posterior.nonlinear_output`.)
    """
    sizes = []
    for layer in block.layers:
        inside, out = layer.inputs[0], layer.outputs[0]
        sizes.append(
            {
                "plain": 0,
                "bias": out,
                "low_rank": posterior.rank * (inside + out) + out,
                "hyper": out + (inside + 1) * out,
            }[posterior.amortization]
        )
    return tuple(sizes)


def autoencoder_arrays(
    model: ModelSpec, blocks: tuple[Block, ...], data: DataInfo
) -> Iterator[ArraySpec]:
    """Arrays of the encoder, its heads and the decoder; initial values as PyTorch's modules."""
    posterior = model.posterior
    if posterior is None:
        return
    for index, shape in enumerate(encoder_shapes(data.event_shape)):
        yield from _conv(shape, f"encoder/layer{index}", gated=True)
    for name in ("mean", "variance"):
        yield from _linear(FEATURES, posterior.latent, f"encoder/{name}")
    for block in blocks:
        size = sum(amortized_sizes(posterior, block))
        if size:
            yield from _linear(FEATURES, size, f"encoder/block{block.index}")
    for index, shape in enumerate(decoder_shapes(posterior.latent, data.event_shape)):
        yield from _conv(shape, f"decoder/layer{index}", gated=True)
    for index, shape in enumerate(head_shapes(data)):
        yield from _conv(shape, f"decoder/head{index}", gated=False)


def _conv(shape: ConvShape, prefix: str, *, gated: bool) -> Iterator[ArraySpec]:
    # The fan-in of a transposed convolution, as PyTorch counts it: outputs times area.
    fan_in = (shape.outputs if shape.transposed else shape.inputs) * math.prod(shape.kernel)
    bound = 1 / math.sqrt(fan_in)
    for gate in ("", "gate_") if gated else ("",):
        kernel = (shape.outputs, shape.inputs, *shape.kernel)
        yield ArraySpec(f"{prefix}/{gate}weight", kernel, bound=bound)
        yield ArraySpec(f"{prefix}/{gate}bias", (shape.outputs,), bound=bound)


def _linear(inputs: int, outputs: int, prefix: str) -> Iterator[ArraySpec]:
    bound = 1 / math.sqrt(inputs)
    yield ArraySpec(f"{prefix}/weight", (outputs, inputs), bound=bound)
    yield ArraySpec(f"{prefix}/bias", (outputs,), bound=bound)
