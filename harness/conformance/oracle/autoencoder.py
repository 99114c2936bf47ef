"""The nets of an autoencoder in plain numpy, after harness.architecture.autoencoder: what the kit
expects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.architecture.autoencoder import (
    LEVELS,
    ConvShape,
    amortized_sizes,
    decoder_shapes,
    encoder_shapes,
    head_shapes,
)
from harness.architecture.transforms import Block
from harness.conformance.oracle.field import Change, Float, Number, convolve
from harness.interface import DataInfo
from harness.trial import Posterior

__all__ = ["Encoding", "Nets", "log_normal"]

Arrays = Mapping[str, Float]


def log_normal(z: Float, mean: Float, variance: Float) -> Float:
    """Log-density of N(mean, diag(variance)) at each row; [batch, latent] to [batch]."""
    terms = (z - mean) ** 2 / variance + np.log(2 * np.pi * variance)
    return np.asarray(-0.5 * terms.sum(axis=1))


def _changed(
    posterior: Posterior, condition: Float, t: Number, h: Number, shared: Number
) -> Number:
    """What each example makes of a layer.

    Arguments:
        posterior: What an example gives.
        condition: What the examples give to this layer, [batch, numbers].
        t: The time.
        h: The layer's input, [batch, in].
        shared: The output of the layer that they share, [batch, out].
    """
    inside, outside, rank = h.shape[1], shared.shape[1], posterior.rank
    rows = []
    for given, x, before in zip(condition, h, shared, strict=True):
        if posterior.amortization == "bias":
            rows.append(before + given)
        elif posterior.amortization == "low_rank":
            left = given[: inside * rank].reshape(inside, rank)
            right = given[inside * rank : -outside].reshape(rank, outside)
            rows.append(before + x @ left @ right + given[-outside:])
        else:
            matrix = given[outside:].reshape(inside + 1, outside)
            rows.append(np.concatenate([[t], x]) @ matrix + given[:outside])
    return np.stack(rows)


class Encoding(NamedTuple):
    """Mean and variance of z0, [batch, latent], and what each block is given, by its index."""

    mean: Float
    variance: Float
    conditions: dict[int, Float]


@dataclass(frozen=True)
class Nets:
    """Encoder and decoder.

    Arguments:
        posterior: What the encoder gives.
        data: The images.
    """

    posterior: Posterior
    data: DataInfo

    def encode(self, arrays: Arrays, x: Float, blocks: Sequence[Block]) -> Encoding:
        """Encodes images [batch, channels, height, width]."""
        h = x
        for index, shape in enumerate(encoder_shapes(self.data.event_shape)):
            h = _gated(arrays, f"encoder/layer{index}", shape, h)
        h = h.reshape(len(h), -1)

        def head(name: str) -> Float:
            return h @ arrays[f"encoder/{name}/weight"].T + arrays[f"encoder/{name}/bias"]

        variance = np.log1p(np.exp(head("variance")))
        if self.data.categorical:
            variance = np.clip(variance, 0.01, 7)
        conditions = {
            block.index: head(f"block{block.index}")
            for block in blocks
            if sum(amortized_sizes(self.posterior, block))
        }
        return Encoding(head("mean"), variance, conditions)

    def changes(self, block: Block, condition: Float | None) -> Change | None:
        """`Field.change` of a block whose dynamics are given `condition`."""
        if condition is None:
            return None
        ends = np.cumsum(amortized_sizes(self.posterior, block))
        parts = np.split(condition, ends[:-1], axis=1)
        return lambda index, t, h, out: _changed(self.posterior, parts[index], t, h, out)

    def reconstruction(self, arrays: Arrays, z: Float, x: Float) -> tuple[Float, Float]:
        """-log p(x | z), [batch], and the picture at z [batch, latent]."""
        h = z[:, :, None, None]
        for index, shape in enumerate(decoder_shapes(z.shape[1], self.data.event_shape)):
            h = _gated(arrays, f"decoder/layer{index}", shape, h)
        for index, shape in enumerate(head_shapes(self.data)):
            h = _convolve(arrays, f"decoder/head{index}/", shape, h)
        if not self.data.categorical:
            mean = 1 / (1 + np.exp(-h))
            log_p = np.where(x == 1, np.log(mean), np.log(1 - mean))
            return -log_p.reshape(len(x), -1).sum(axis=1), mean
        logits = h.reshape(len(h), LEVELS, *x.shape[1:])
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        levels = np.rint(x * (LEVELS - 1)).astype(int)
        chosen = np.take_along_axis(log_p, levels[:, None], axis=1)
        return -chosen.reshape(len(x), -1).sum(axis=1), logits.argmax(axis=1) / (LEVELS - 1)


def _gated(arrays: Arrays, prefix: str, shape: ConvShape, h: Float) -> Float:
    gate = _convolve(arrays, f"{prefix}/gate_", shape, h)
    return np.asarray(_convolve(arrays, f"{prefix}/", shape, h) / (1 + np.exp(-gate)))


def _convolve(arrays: Arrays, prefix: str, shape: ConvShape, h: Float) -> Float:
    out = convolve(
        h,
        arrays[f"{prefix}weight"],
        shape.stride,
        shape.padding,
        shape.transposed,
        shape.output_padding,
    )
    return np.asarray(out + arrays[f"{prefix}bias"][:, None, None])
