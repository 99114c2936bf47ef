"""Counter-based random streams: every random array is a pure function of (seed, slot, step).

The words come from the Philox counter generator, whose raw output numpy keeps stable. The
transforms to uniform, normal, sign and permutation are our own and use only operations that IEEE
754 rounds exactly (harness.streams.elementary), so the same bits come out on every machine, numpy
version and instruction set; numpy promises that for none of its distributions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.streams.elementary import blockwise, horner, log

__all__ = ["Stream", "inverse_normal_cdf"]

Float = npt.NDArray[np.float64]

_WORDS = 4
"""Words that Philox makes of one value of its counter."""


@dataclass(frozen=True)
class Stream:
    """The random numbers of one slot at one step.

    Arguments:
        seed: The trial's seed.
        slot: What the numbers are for, e.g. `init/block0/layer1/weight` or `probe/0`.
        step: Optimiser step, epoch, or 0.
        skip: Words that are left out at the beginning.

    Example:
        >>> Stream(seed=0, slot="doc").uniform((2,)).shape
        (2,)
    """

    seed: int
    slot: str
    step: int = 0
    skip: int = 0

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """Returns the next `count` words of 64 random bits."""
        text = f"{self.seed}/{self.slot}/{self.step}".encode()
        key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
        philox = np.random.Philox(key=key)
        philox.advance(self.skip // _WORDS)
        within = self.skip % _WORDS
        raw = philox.random_raw(within + count)[within:]
        return np.asarray(raw, dtype=np.uint64)

    def uniform(self, shape: tuple[int, ...]) -> Float:
        """Uniform on the open interval (0, 1): the centres of 2^52 equal cells."""
        return _unit(self.words(_size(shape))).reshape(shape)

    def normal(self, shape: tuple[int, ...]) -> Float:
        """Standard normal, by inversion."""
        words = self.words(_size(shape))
        return blockwise(lambda part: inverse_normal_cdf(_unit(part)), words).reshape(shape)

    def rademacher(self, shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
        """Signs -1 and +1 with equal probability, as int8."""
        bits = (self.words(_size(shape)) >> np.uint64(63)).astype(np.int8)
        return (2 * bits - 1).reshape(shape)

    def integers(self, high: int, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
        """Uniform on 0 .. high-1; the bias of truncation is below high / 2^52."""
        return np.floor(self.uniform(shape) * high).astype(np.int64)

    def permutation(self, count: int) -> npt.NDArray[np.int64]:
        """A random order of 0 .. count-1."""
        return np.argsort(self.words(count), kind="stable").astype(np.int64)


def _unit(words: npt.NDArray[np.uint64]) -> Float:
    cells = (words >> np.uint64(12)).astype(np.float64)
    unit: Float = (cells + 0.5) * 2.0**-52
    return unit


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


# Coefficients of algorithm AS 241, PPND16 (M. J. Wichura, The percentage points of the normal
# distribution, Applied Statistics 37, 1988), highest power first; relative accuracy about 1e-16.
_CENTRE = (
    (
        2509.0809287301226727,
        33430.575583588128105,
        67265.770927008700853,
        45921.953931549871457,
        13731.693765509461125,
        1971.5909503065514427,
        133.14166789178437745,
        3.387132872796366608,
    ),
    (
        5226.495278852545925,
        28729.085735721942674,
        39307.89580009271061,
        21213.794301586595867,
        5394.1960214247511077,
        687.1870074920579083,
        42.313330701600911252,
        1.0,
    ),
)
_NEAR_TAIL = (
    (
        7.7454501427834140764e-4,
        0.0227238449892691845833,
        0.24178072517745061177,
        1.27045825245236838258,
        3.64784832476320460504,
        5.7694972214606914055,
        4.6303378461565452959,
        1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9,
        5.475938084995344946e-4,
        0.0151986665636164571966,
        0.14810397642748007459,
        0.68976733498510000455,
        1.6763848301838038494,
        2.05319162663775882187,
        1.0,
    ),
)
_FAR_TAIL = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        0.0012426609473880784386,
        0.026532189526576123093,
        0.29656057182850489123,
        1.7848265399172913358,
        5.4637849111641143699,
        6.6579046435011037772,
    ),
    (
        2.04426310338993978564e-15,
        1.4215117583164458887e-7,
        1.8463183175100546818e-5,
        7.868691311456132591e-4,
        0.0148753612908506148525,
        0.13692988092273580531,
        0.59983220655588793769,
        1.0,
    ),
)


def inverse_normal_cdf(p: Float) -> Float:
    """Quantile of the standard normal distribution, for p in (0, 1)."""
    q = p - 0.5
    r = 0.180625 - q * q
    x = q * _ratio(_CENTRE, r)
    tail = np.abs(q) > 0.425
    if tail.any():
        q_tail = q[tail]
        r_tail = np.sqrt(-log(np.minimum(p[tail], 1.0 - p[tail])))
        size = _ratio(_NEAR_TAIL, r_tail - 1.6)
        far = r_tail > 5.0
        if far.any():
            size[far] = _ratio(_FAR_TAIL, r_tail[far] - 5.0)
        x[tail] = np.where(q_tail < 0, -size, size)
    return x


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], r: Float) -> Float:
    top, bottom = coefficients
    return horner(top, r) / horner(bottom, r)
