"""The eight 2-D densities of the FFJORD code base, written from their mathematical description.

Each toy is a map from independent uniforms on (0, 1), one row a point, to the plane. In the
formulas u is uniform on (0, 1), n, m are standard normal, k is a uniform integer and all draws are
independent. Training points are drawn anew at every step; validation and test are fixed samples.
Places, scales and noises are those of the released code (rtqichen/ffjord, lib/toy_data.py); where
it spaces points evenly along a curve we draw the place uniformly, which is the density it means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.datasets.base import Batching, Dataset, Declaration, Float, Loader, Rows, Split
from harness.datasets.folders import declared_digest
from harness.interface import DataInfo
from harness.streams.elementary import cos_sin, exp
from harness.streams.stream import Stream, inverse_normal_cdf

__all__ = ["LOADERS", "Toy"]

LOADER_VERSION = 1
FIXED_ROWS: Mapping[Split, int] = {"train": 100_000, "val": 10_000, "test": 10_000}
"""Rows of the fixed samples; that of `train` serves closed-form fits and a training score."""


def swissroll(u: Float) -> Float:
    """With t = 3/2 pi (1 + 2u): (t cos t + n, t sin t + m) / 5."""
    turns = 0.75 * (1.0 + 2.0 * u[:, 0])
    radius = 2.0 * np.pi * turns
    return (_polar(radius, turns) + _normal(u[:, 1:3])) / 5.0


def eight_gaussians(u: Float) -> Float:
    """Centre k at angle 2 pi k / 8 and radius 4; (centre + (n, m) / 2) / 1.414."""
    centre = _polar(np.full(len(u), 4.0), _integer(u[:, 0], 8) / 8.0)
    return (centre + 0.5 * _normal(u[:, 1:3])) / 1.414


def pinwheel(u: Float) -> Float:
    """With r = 1 + 0.3 n: (r, 0.1 m) turned clockwise by 2 pi k / 5 + exp(r) / 4, times 2."""
    normal = _normal(u[:, 1:3])
    r, s = 1.0 + 0.3 * normal[:, 0], 0.1 * normal[:, 1]
    cos, sin = cos_sin(_integer(u[:, 0], 5) / 5.0 + 0.25 * exp(r) / (2.0 * np.pi))
    return 2.0 * np.stack([r * cos + s * sin, s * cos - r * sin], axis=1)


def circles(u: Float) -> Float:
    """Radius 1 or 1/2, uniform angle, plus 0.08 (n, m); times 3."""
    radius = 1.0 - 0.5 * _integer(u[:, 0], 2)
    points: Float = 3.0 * (_polar(radius, u[:, 1]) + 0.08 * _normal(u[:, 2:4]))
    return points


def moons(u: Float) -> Float:
    """With a = pi u: (cos a, sin a) or (1 - cos a, 1/2 - sin a), plus 0.1 (n, m); times 2, then
    moved by (-1, -0.2).
    """
    upper = _integer(u[:, 0], 2) == 0
    cos, sin = cos_sin(0.5 * u[:, 1])
    curve = np.where(
        upper[:, None],
        np.stack([cos, sin], axis=1),
        np.stack([1.0 - cos, 0.5 - sin], axis=1),
    )
    points: Float = 2.0 * (curve + 0.1 * _normal(u[:, 2:4])) + np.array([-1.0, -0.2])
    return points


def two_spirals(u: Float) -> Float:
    """With r = 3 pi sqrt(u): +-(-r cos r + u'/2, r sin r + u''/2) / 3 plus 0.1 (n, m)."""
    turns = 1.5 * np.sqrt(u[:, 1])
    spiral = _polar(2.0 * np.pi * turns, turns) * np.array([-1.0, 1.0]) + 0.5 * u[:, 2:4]
    sign = 1.0 - 2.0 * _integer(u[:, 0], 2)
    points: Float = sign[:, None] * spiral / 3.0 + 0.1 * _normal(u[:, 4:6])
    return points


def checkerboard(u: Float) -> Float:
    """Uniform on the eight squares of a 4 x 4 board on [-4, 4]^2 that include the lower left one.

    x = 4u - 2, y = u' - 2k + (floor(x) mod 2) with k in {0, 1}; (2x, 2y). The density is 1/32 on
    the squares, so no model's mean negative log-likelihood can be below ln 32 = 3.466 nats.
    """
    x = 4.0 * u[:, 0] - 2.0
    y = u[:, 1] - 2.0 * _integer(u[:, 2], 2) + np.floor(x) % 2.0
    return 2.0 * np.stack([x, y], axis=1)


def rings(u: Float) -> Float:
    """Radius 3 k / 4, k in {1, 2, 3, 4}, uniform angle, plus 0.08 (n, m)."""
    radius = 0.75 * (1.0 + _integer(u[:, 0], 4))
    return _polar(radius, u[:, 1]) + 0.08 * _normal(u[:, 2:4])


def _polar(radius: Float, turns: Float) -> Float:
    cos, sin = cos_sin(turns)
    return np.stack([radius * cos, radius * sin], axis=1)


def _normal(u: Float) -> Float:
    return inverse_normal_cdf(np.ascontiguousarray(u))


def _integer(u: Float, count: int) -> Float:
    return np.floor(u * count)


@dataclass(frozen=True)
class Toy(Loader):
    """One of the 2-D densities.

    Arguments:
        name: Its name in the released code.
        draw: Maps uniforms [n, uniforms] to points [n, 2].
        uniforms: Uniforms a point needs.
        summary: One line for `harness list`.
        components: The first uniform chooses one of so many; 0 if there are none.
        curve: The second uniform is the place on a curve, on which a stratified batch of the
            released code is evenly spaced: `open`, both ends included, or `closed`. `mirrored`:
            its second component has the curve's points of the first.
    """

    name: str
    draw: Callable[[Float], Float]
    uniforms: int
    summary: str
    components: int = 0
    curve: Literal["closed", "mirrored", "open"] | None = None

    def spread(self, uniforms: Float) -> Float:
        """The uniforms of a stratified batch: equally many points of each component, as far as
        they can be, evenly placed on its curve.
        """
        count, spread = len(uniforms), uniforms.copy()
        if not self.components:
            return spread
        component = np.arange(count) * self.components // count
        spread[:, 0] = (component + 0.5) / self.components
        if self.curve == "mirrored":
            half = count // 2
            spread[count - half :, 1:4] = spread[:half, 1:4]
        elif self.curve is not None:
            for index in range(self.components):
                rows = np.flatnonzero(component == index)
                gaps = max(1, len(rows) - 1 if self.curve == "open" else len(rows))
                spread[rows, 1] = np.arange(len(rows)) / gaps
        return spread

    def declare(self) -> Declaration:
        """There is no raw file: the digest is of the name and the version of the formula."""
        digest = declared_digest(f"toy2d/{self.name}", LOADER_VERSION)
        summary = f"{self.summary}; 2-D, drawn from a formula"
        return Declaration(
            self.name, digest, summary, event_shape=(2,), test_rows=FIXED_ROWS["test"]
        )

    def load(self) -> Dataset:
        """Returns the endless dataset."""
        return _ToyDataset(self)


class _ToyDataset(Dataset):
    """Points of a toy. A shorter batch is the beginning of a longer one of the same step."""

    def __init__(self, toy: Toy) -> None:
        self.info = DataInfo(toy.name, (2,))
        self._toy = toy

    def sizes(self) -> Mapping[Split, int]:
        """Validation and test are fixed samples; training never ends."""
        return {"train": 0, "val": FIXED_ROWS["val"], "test": FIXED_ROWS["test"]}

    def training_batch(self, seed: int, step: int, batching: Batching) -> Rows:
        """Fresh points of `Stream(seed, "data/train", step)`."""
        stream = Stream(seed, "data/train", step)
        uniforms = stream.uniform((batching.size, self._toy.uniforms))
        if batching.stratified:
            uniforms = self._toy.spread(uniforms)
        return Rows(self._toy.draw(uniforms), np.zeros(batching.size))

    def rows(self, split: Split, limit: int | None = None) -> Rows:
        """The fixed sample of a split, of `Stream(0, "data/fixed/<split>")`."""
        count = FIXED_ROWS[split]
        return self._draw(
            Stream(0, f"data/fixed/{split}"), count if limit is None else min(count, limit)
        )

    def _draw(self, stream: Stream, count: int) -> Rows:
        uniforms = stream.uniform((count, self._toy.uniforms))
        return Rows(self._toy.draw(uniforms), np.zeros(count))


LOADERS: Mapping[str, Loader] = {
    toy.name: toy
    for toy in (
        Toy("swissroll", swissroll, 3, "a spiral of one arm"),
        Toy("8gaussians", eight_gaussians, 3, "eight Gaussians on a circle"),
        Toy("pinwheel", pinwheel, 3, "five twisted blades", 5),
        Toy("circles", circles, 4, "two circles", 2, "closed"),
        Toy("moons", moons, 4, "two interleaved half circles", 2, "open"),
        Toy("2spirals", two_spirals, 6, "a spiral of two arms", 2, "mirrored"),
        Toy("checkerboard", checkerboard, 3, "eight squares of a 4 x 4 board"),
        Toy("rings", rings, 4, "four circles", 4, "closed"),
    )
}
