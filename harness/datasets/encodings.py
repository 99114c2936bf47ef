"""How pixels become the rows that a model sees; each is tested by hand computation."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.datasets.base import DataSpace, Float, Rows
from harness.interface import Likelihood
from harness.streams.elementary import IN_CACHE, log
from harness.streams.stream import Stream

__all__ = ["Binarised", "Encoding", "Levels", "Logit"]

Pixels = npt.NDArray[Any]


class Encoding(abc.ABC):
    """Turns pixels [n, channels, height, width] into rows of the same shape."""

    likelihood: Likelihood
    """`DataInfo.likelihood` of the rows."""
    noise: str | None
    """What the uniforms are for that it needs, one a pixel; None if it needs none."""

    @abc.abstractmethod
    def rows(self, pixels: Pixels, uniforms: Float) -> Rows:
        """Encodes pixels.

        Arguments:
            pixels: [n, ...].
            uniforms: [n, ...] on (0, 1); empty if `noise` is None.
        """

    def to_data(self, x: Float) -> Float:
        """Maps rows back to pixels, for pictures."""
        return x

    @property
    @abc.abstractmethod
    def space(self) -> DataSpace:
        """The space in which a trained model speaks of pixels."""


@dataclass(frozen=True)
class Logit(Encoding):
    """Dequantises pixels and maps them to the real line.

    With v = level + u in data space, x = v / levels, s = alpha + (1 - 2 alpha) x:

        y = log s - log(1 - s),
        log |dy/dv| = log(1 - 2 alpha) - log s - log(1 - s) - log levels,

    so densities are those of v, one unit a level, and a bound on the log-probability of the levels
    themselves (Theis et al., arXiv:1511.01844). FFJORD (arXiv:1810.01367) writes the same as
    x = (255 image + u) / 256 with images in [0, 1], and subtracts log 256 where it computes
    bits/dim; so bits/dim = -mean(log p(y) + sum of log |dy/dv|) / (D ln 2) is its formula.

    Arguments:
        levels: Pixels are 0 .. levels - 1.
        alpha: Margin that keeps the logit finite.
    """

    levels: int
    alpha: float
    likelihood = "density"
    noise = "dequantise"

    def rows(self, pixels: Pixels, uniforms: Float) -> Rows:
        """y, and the sum of log |dy/dv| over the pixels."""
        y, volume = np.empty(uniforms.shape), np.empty(len(uniforms))
        constant = log(np.array([(1.0 - 2.0 * self.alpha) / self.levels]))
        width = math.prod(uniforms.shape[1:])
        # A few images at a time stay in the processor's cache, which is three times as fast.
        few = max(1, IN_CACHE // width)
        for start in range(0, len(y), few):
            part = slice(start, start + few)
            x = (pixels[part] + uniforms[part]) / self.levels
            s = self.alpha + (1.0 - 2.0 * self.alpha) * x
            log_s, log_rest = log(s), log(1.0 - s)
            y[part] = log_s - log_rest
            volume[part] = np.sum((constant - log_s - log_rest).reshape(-1, width), axis=1)
        return Rows(y, volume)

    def to_data(self, x: Float) -> Float:
        """Inverts the logit: values in (0, levels), whose integer part is the level.

        What lies beyond the range of the data is clipped to it.
        """
        return np.clip(self.inverse(x), 0.0, self.levels)

    def inverse(self, x: Float) -> Float:
        """Inverts the logit; a model may leave the range of the data by the margin."""
        s = 0.5 * (1.0 + np.tanh(0.5 * x))
        v: Float = self.levels * (s - self.alpha) / (1.0 - 2.0 * self.alpha)
        return v

    @property
    def space(self) -> DataSpace:
        """The dequantised pixels v, with the margin of the logit around them."""
        margin = self.alpha * self.levels / (1.0 - 2.0 * self.alpha)
        text = (
            f"pixels from 0 to {self.levels}, a level of 0..{self.levels - 1} plus uniform noise; "
            "densities are of one unit a level"
        )
        return _Dequantised(text, -margin, self.levels + margin, encoding=self)


@dataclass(frozen=True)
class Levels(Encoding):
    """The levels themselves, k / (levels - 1): 0 and 1 of binary images, or greys for a decoder
    with one probability a level.

    `round((levels - 1) x)` gives k back. The released code truncates instead, which for 256 levels
    gives the same in float32.

    Arguments:
        levels: Pixels are 0 .. levels - 1.
        likelihood: `bernoulli` or `categorical`.
    """

    levels: int
    likelihood: Likelihood
    noise = None

    def rows(self, pixels: Pixels, uniforms: Float) -> Rows:
        """The pixels in [0, 1]."""
        return Rows(pixels.astype(np.float64) / (self.levels - 1), np.zeros(len(pixels)))

    @property
    def space(self) -> DataSpace:
        """The pixels in [0, 1]."""
        return _levels(self.levels)


@dataclass(frozen=True)
class Binarised(Encoding):
    """Random binary images, each pixel 1 with probability pixel / scale.

    Pixels that are 0 or `scale` already stay what they are, whatever the uniforms.

    Arguments:
        scale: The largest pixel.
    """

    scale: float = 1.0
    likelihood = "bernoulli"
    noise = "binarise"

    def rows(self, pixels: Pixels, uniforms: Float) -> Rows:
        """Zeros and ones."""
        ones = uniforms < pixels.astype(np.float64) / self.scale
        return Rows(ones.astype(np.float64), np.zeros(len(pixels)))

    @property
    def space(self) -> DataSpace:
        """The binary pixels."""
        return _levels(2)


@dataclass(frozen=True)
class _Dequantised(DataSpace):
    """The pixels before a logit."""

    encoding: Logit = field(kw_only=True)

    def rows(self, data: Pixels) -> Rows:
        """See `DataSpace.rows`."""
        noise = np.zeros(data.shape)
        if data.dtype.kind in "iu":
            noise = Stream(0, "data/dequantise/points").uniform(data.shape)
        return self.encoding.rows(data, noise)

    def data(self, x: Float) -> Float:
        """See `DataSpace.data`."""
        return self.encoding.inverse(x)


def _levels(count: int) -> DataSpace:
    text = "pixels 0 or 1" if count == 2 else f"pixels k / {count - 1} for the levels k"
    return DataSpace(text, 0.0, 1.0, closed=True, levels=count)
