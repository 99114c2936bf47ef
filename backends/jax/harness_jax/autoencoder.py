"""The nets of a variational autoencoder and its likelihood; shapes and names are those of
harness.architecture.autoencoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from harness.architecture.autoencoder import (
    LEVELS,
    ConvShape,
    amortized_sizes,
    decoder_shapes,
    encoder_shapes,
    head_shapes,
)
from harness.architecture.transforms import Block
from harness.interface import DataInfo
from harness.trial import ModelSpec

__all__ = ["Autoencoder", "Encoding", "log_normal"]

Arrays = Mapping[str, jax.Array]


class Encoding(NamedTuple):
    """What the encoder says of each example.

    Arguments:
        mean: Of z0, [batch, latent].
        variance: Of z0, [batch, latent].
        conditions: What the example gives to each block's dynamics, [batch, numbers]; None for
            dynamics that all examples share.
    """

    mean: jax.Array
    variance: jax.Array
    conditions: Sequence[jax.Array | None]


def log_normal(z: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    """Log-density of N(mean, diag(variance)) at each row, [batch]."""
    terms = jnp.square(z - mean) / variance + jnp.log(variance) + math.log(2 * math.pi)
    return -0.5 * jnp.sum(terms, axis=1)


@dataclass(frozen=True)
class Autoencoder:
    """Encoder, decoder and likelihood as functions of the arrays.

    Arguments:
        model: The architecture, with a posterior.
        blocks: The blocks of its flow.
        data: The images, of shape (channels, height, width).
    """

    model: ModelSpec
    blocks: tuple[Block, ...]
    data: DataInfo

    @property
    def latent(self) -> int:
        """Dimension of z."""
        if self.model.posterior is None:
            raise ValueError("a model without a posterior is no autoencoder")
        return self.model.posterior.latent

    def encode(self, arrays: Arrays, x: jax.Array) -> Encoding:
        """Encodes x [batch, channels, height, width]."""
        h = x
        for index, shape in enumerate(encoder_shapes(self.data.event_shape)):
            h = _gated(arrays, f"encoder/layer{index}", shape, h)
        features = h.reshape(len(h), -1)
        variance = jax.nn.softplus(_linear(arrays, "encoder/variance", features))
        if self.data.categorical:
            variance = jnp.clip(variance, 0.01, 7.0)
        conditions = [
            _linear(arrays, f"encoder/block{block.index}", features)
            if self._gives(block)
            else None
            for block in self.blocks
        ]
        return Encoding(_linear(arrays, "encoder/mean", features), variance, conditions)

    def decode(self, arrays: Arrays, z: jax.Array) -> jax.Array:
        """Logits at z [batch, latent]: [batch, C, H, W], or with levels [batch, 256, C, H, W]."""
        h = z[:, :, None, None]
        for index, shape in enumerate(decoder_shapes(self.latent, self.data.event_shape)):
            h = _gated(arrays, f"decoder/layer{index}", shape, h)
        for index, shape in enumerate(head_shapes(self.data)):
            h = _convolve(arrays, f"decoder/head{index}/", shape, h)
        return h.reshape(len(h), LEVELS, -1, *h.shape[2:]) if self.data.categorical else h

    def reconstruction(self, logits: jax.Array, x: jax.Array) -> jax.Array:
        """-log p(x | z) of each example, nats, summed over pixels; [batch]."""
        if self.data.categorical:
            levels = jnp.round(x * (LEVELS - 1)).astype(jnp.int32)
            log_p = jax.nn.log_softmax(logits, axis=1)
            losses = -jnp.take_along_axis(log_p, levels[:, None], axis=1)
        else:
            # log(1 + exp(l)) - x l, without overflow.
            losses = jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits))) - x * logits
        return jnp.sum(losses.reshape(len(x), -1), axis=1)

    def picture(self, logits: jax.Array) -> jax.Array:
        """Bernoulli means, or the likeliest level / 255; [batch, C, H, W]."""
        if self.data.categorical:
            return jnp.argmax(logits, axis=1).astype(logits.dtype) / (LEVELS - 1)
        return jax.nn.sigmoid(logits)

    def _gives(self, block: Block) -> bool:
        posterior = self.model.posterior
        return posterior is not None and sum(amortized_sizes(posterior, block)) > 0


def _linear(arrays: Arrays, prefix: str, h: jax.Array) -> jax.Array:
    return h @ arrays[f"{prefix}/weight"].T + arrays[f"{prefix}/bias"]


def _gated(arrays: Arrays, prefix: str, shape: ConvShape, h: jax.Array) -> jax.Array:
    gate = jax.nn.sigmoid(_convolve(arrays, f"{prefix}/gate_", shape, h))
    return _convolve(arrays, f"{prefix}/", shape, h) * gate


def _convolve(arrays: Arrays, prefix: str, shape: ConvShape, h: jax.Array) -> jax.Array:
    weight, bias = arrays[f"{prefix}weight"], arrays[f"{prefix}bias"]
    padding = [(shape.padding, shape.padding)] * 2
    stride, dilation = (shape.stride,) * 2, (1, 1)
    if shape.transposed:
        # A transposed convolution is one of the stretched image with the kernel turned round.
        weight = weight[:, :, ::-1, ::-1]
        stride, dilation = dilation, stride
        padding = [
            (k - 1 - shape.padding, k - 1 - shape.padding + shape.output_padding)
            for k in shape.kernel
        ]
    out = lax.conv_general_dilated(h, weight, stride, padding, lhs_dilation=dilation)
    return out + bias[:, None, None]
