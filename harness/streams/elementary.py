"""Elementary functions that give the same bits on every machine.

numpy's vectorised log, exp, sin and cos differ in the last bit between processors and versions.
These use only operations that IEEE 754 rounds exactly (+ - * / sqrt, comparisons, scaling by
powers of two), and are accurate to a few units in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["IN_CACHE", "blockwise", "cos_sin", "exp", "horner", "log"]

Float = npt.NDArray[np.float64]

IN_CACHE = 1 << 14
"""Numbers, of which a dozen arrays fit into a cache of the second level."""

_LN2 = 0.6931471805599453
_TWO_PI = 6.283185307179586
_SQRT_HALF = 0.7071067811865476
_FRACTION = (1 << 52) - 1
_EXPONENT_OF_HALF = 1022 << 52
# log((1+u)/(1-u)) = 2 (u + u^3/3 + u^5/5 + ...); |u| <= 0.172, so 11 terms reach 1e-17.
_ATANH_SERIES = tuple(2.0 / n for n in range(21, 0, -2))
# |r| <= ln(2)/2 = 0.35, so the 14th power over 14! is below 1e-17.
_EXP_SERIES = tuple(1.0 / math.factorial(n) for n in range(14, -1, -1))
# |angle| <= pi/4: the first term left out is below 1e-17 in both.
_SIN_SERIES = tuple((-1.0) ** n / math.factorial(2 * n + 1) for n in range(8, -1, -1))
_COS_SERIES = tuple((-1.0) ** n / math.factorial(2 * n) for n in range(9, -1, -1))


def blockwise(function: Callable[[npt.NDArray[Any]], Float], x: npt.NDArray[Any]) -> Float:
    """An elementwise function of x, a few numbers at a time: the same bits, and twice as fast for
    functions that make many passes.
    """
    if x.size <= IN_CACHE:
        return function(x)
    flat, result = x.reshape(-1), np.empty(x.size)
    for start in range(0, x.size, IN_CACHE):
        part = slice(start, start + IN_CACHE)
        result[part] = function(flat[part])
    return result.reshape(x.shape)


def horner(coefficients: Sequence[float], x: Float) -> Float:
    """The polynomial with these coefficients, highest power first, at x."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= x
        value += coefficient
    return value


def log(x: Float) -> Float:
    """Natural logarithm, for normal positive x."""
    return blockwise(_log, x)


def _log(x: Float) -> Float:
    # frexp by hand, as numpy has no vectorised one: x = mantissa 2^exponent, 1/2 <= mantissa < 1.
    bits = np.asarray(x, np.float64).view(np.int64)
    exponent = (bits >> 52) - 1022
    mantissa = ((bits & _FRACTION) | _EXPONENT_OF_HALF).view(np.float64)
    low = mantissa < _SQRT_HALF
    mantissa = np.where(low, 2.0 * mantissa, mantissa)
    exponent = exponent - low
    u = (mantissa - 1.0) / (mantissa + 1.0)
    return exponent * _LN2 + u * horner(_ATANH_SERIES, u * u)


def exp(x: Float) -> Float:
    """Exponential, for |x| < 700."""
    doublings = np.rint(x / _LN2)
    return np.ldexp(horner(_EXP_SERIES, x - doublings * _LN2), doublings.astype(np.int32))


def cos_sin(turns: Float) -> tuple[Float, Float]:
    """Cosine and sine of an angle given in full turns, i.e. of 2 pi `turns`."""
    quarter = np.rint(4.0 * turns)
    angle = _TWO_PI * (turns - 0.25 * quarter)
    square = angle * angle
    cos, sin = horner(_COS_SERIES, square), angle * horner(_SIN_SERIES, square)
    odd = quarter.astype(np.int64) % 2 == 1
    cos, sin = np.where(odd, -sin, cos), np.where(odd, cos, sin)
    half = quarter.astype(np.int64) % 4 >= 2
    return np.where(half, -cos, cos), np.where(half, -sin, sin)
