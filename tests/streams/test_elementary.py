"""Our own log, exp, cos and sin against numpy's."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from harness.streams.elementary import IN_CACHE, blockwise, cos_sin, exp, horner, log
from harness.streams.stream import Stream


def test_log_and_exp_are_accurate_to_a_few_units_in_the_last_place() -> None:
    x = np.linspace(-600.0, 600.0, 100_001)
    np.testing.assert_allclose(exp(x), np.exp(x), rtol=3e-13)
    np.testing.assert_allclose(exp(x / 600), np.exp(x / 600), rtol=1e-15)
    np.testing.assert_allclose(log(np.exp(x)), x, rtol=1e-15, atol=1e-13)
    near_one = 1.0 + np.linspace(-0.25, 0.25, 10_001)
    np.testing.assert_allclose(log(near_one), np.log(near_one), rtol=1e-15, atol=1e-16)


def test_log_and_exp_at_exact_arguments() -> None:
    powers = np.array([2.0**-1022, 0.25, 1.0, 2.0, 2.0**1000])
    np.testing.assert_array_equal(log(powers), np.log2(powers) * math.log(2.0))
    np.testing.assert_array_equal(exp(np.zeros(2)), [1.0, 1.0])


def test_cos_sin_on_many_turns() -> None:
    turns = np.linspace(-5.0, 5.0, 100_003)
    cos, sin = cos_sin(turns)
    np.testing.assert_allclose(cos**2 + sin**2, 1.0, rtol=1e-15)
    np.testing.assert_allclose(cos, np.cos(2 * np.pi * turns), atol=5e-15)
    np.testing.assert_allclose(sin, np.sin(2 * np.pi * turns), atol=5e-15)


def test_cos_sin_is_exact_at_quarter_turns() -> None:
    cos, sin = cos_sin(np.arange(-8, 9) / 4.0)
    np.testing.assert_array_equal(cos, np.tile([1.0, 0.0, -1.0, 0.0], 5)[:17])
    np.testing.assert_array_equal(sin, np.tile([0.0, 1.0, 0.0, -1.0], 5)[:17])


def test_horner_takes_the_highest_power_first() -> None:
    np.testing.assert_array_equal(horner((3.0, 2.0, 1.0), np.array([0.0, 2.0])), [1.0, 17.0])


def test_blocks_leave_all_bits_as_they_are() -> None:
    x = Stream(0, "test/log").uniform((3, 2 * IN_CACHE // 5 + 1))
    apart = [log(part) for part in np.array_split(x.reshape(-1), 7)]
    np.testing.assert_array_equal(log(x).reshape(-1), np.concatenate(apart))
    assert log(x).shape == x.shape
    counted: list[int] = []

    def double(part: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        counted.append(part.size)
        return 2 * part

    np.testing.assert_array_equal(blockwise(double, x[:, ::2]), 2 * x[:, ::2])
    assert max(counted) <= IN_CACHE
    assert blockwise(double, np.zeros((0, 3))).shape == (0, 3)


def test_log_takes_numbers_apart_as_frexp_does() -> None:
    exponents = np.arange(-1022, 1024)
    x = np.ldexp(1.0 + Stream(0, "test/frexp").uniform((len(exponents),)), exponents)
    mantissa, exponent = np.frexp(x)
    expected = log(mantissa) + exponent * math.log(2.0)
    np.testing.assert_allclose(log(x), expected, rtol=1e-15, atol=1e-13)
