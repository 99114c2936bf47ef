"""The nets of a variational autoencoder and its likelihood; shapes and names are those of
harness.architecture.autoencoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

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

Arrays = Mapping[str, Tensor]


class Encoding(NamedTuple):
    """What the encoder says of each example.

    Arguments:
        mean: Of z0, [batch, latent].
        variance: Of z0, [batch, latent].
        conditions: What the example gives to each block's dynamics, [batch, numbers]; None for
            dynamics that all examples share.
    """

    mean: Tensor
    variance: Tensor
    conditions: Sequence[Tensor | None]


def log_normal(z: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Log-density of N(mean, diag(variance)) at each row, [batch]."""
    terms = (z - mean).square() / variance + variance.log() + math.log(2 * math.pi)
    return -0.5 * terms.sum(dim=1)


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

    def encode(self, arrays: Arrays, x: Tensor) -> Encoding:
        """Encodes x [batch, channels, height, width]."""
        h = x
        for index, shape in enumerate(encoder_shapes(self.data.event_shape)):
            h = _gated(arrays, f"encoder/layer{index}", shape, h)
        features = h.flatten(1)
        variance = F.softplus(_linear(arrays, "encoder/variance", features))
        if self.data.categorical:
            variance = variance.clamp(0.01, 7.0)
        conditions = [
            _linear(arrays, f"encoder/block{block.index}", features)
            if self._gives(block)
            else None
            for block in self.blocks
        ]
        return Encoding(_linear(arrays, "encoder/mean", features), variance, conditions)

    def decode(self, arrays: Arrays, z: Tensor) -> Tensor:
        """Logits at z [batch, latent]: [batch, C, H, W], or with levels [batch, 256, C, H, W]."""
        h = z[:, :, None, None]
        for index, shape in enumerate(decoder_shapes(self.latent, self.data.event_shape)):
            h = _gated(arrays, f"decoder/layer{index}", shape, h)
        for index, shape in enumerate(head_shapes(self.data)):
            h = _convolve(arrays, f"decoder/head{index}/", shape, h)
        return h.view(len(h), LEVELS, -1, *h.shape[2:]) if self.data.categorical else h

    def reconstruction(self, logits: Tensor, x: Tensor) -> Tensor:
        """-log p(x | z) of each example, nats, summed over pixels; [batch]."""
        if self.data.categorical:
            levels = (x * (LEVELS - 1)).round().long()
            return F.cross_entropy(logits, levels, reduction="none").flatten(1).sum(dim=1)
        losses = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return losses.flatten(1).sum(dim=1)

    def picture(self, logits: Tensor) -> Tensor:
        """Bernoulli means, or the likeliest level / 255; [batch, C, H, W]."""
        if self.data.categorical:
            return logits.argmax(dim=1).to(logits.dtype) / (LEVELS - 1)
        return torch.sigmoid(logits)

    def _gives(self, block: Block) -> bool:
        posterior = self.model.posterior
        return posterior is not None and sum(amortized_sizes(posterior, block)) > 0


def _linear(arrays: Arrays, prefix: str, h: Tensor) -> Tensor:
    return F.linear(h, arrays[f"{prefix}/weight"], arrays[f"{prefix}/bias"])


def _gated(arrays: Arrays, prefix: str, shape: ConvShape, h: Tensor) -> Tensor:
    gate = torch.sigmoid(_convolve(arrays, f"{prefix}/gate_", shape, h))
    return _convolve(arrays, f"{prefix}/", shape, h) * gate


def _convolve(arrays: Arrays, prefix: str, shape: ConvShape, h: Tensor) -> Tensor:
    weight, bias = arrays[f"{prefix}weight"], arrays[f"{prefix}bias"]
    if shape.transposed:
        return F.conv_transpose2d(
            h,
            weight.transpose(0, 1),
            bias,
            stride=shape.stride,
            padding=shape.padding,
            output_padding=shape.output_padding,
        )
    return F.conv2d(h, weight, bias, stride=shape.stride, padding=shape.padding)
