"""Random streams: golden bits, laws, independence.

Statistical tests run on fixed seeds, so they pass or fail for good; their thresholds are those of
a two-sided test with a false-alarm rate of 1e-4 each, had the seed been free.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from harness.streams.stream import Stream, inverse_normal_cdf

FALSE_ALARM = 1e-4
N = 200_000


def fingerprint(array: npt.NDArray[np.generic]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


# A change of any of these changes every recorded number: raise SEMANTICS_VERSION with it.
GOLDEN = {
    "init/block0/layer0/weight": "163acaf786c4baae",
    "probe/0": "c18fa5c63c120dd7",
    "base": "2b1c8fcc7746f305",
    "epoch": "01affa84f731558f",
    "data/train": "d6b1b8919ad8b497",
    "data/dequantise": "6c10d10c6d2e55ff",
}


@pytest.mark.parametrize("slot", GOLDEN)
def test_golden_bits_of_every_slot(slot: str) -> None:
    stream = Stream(seed=3, slot=slot, step=7)
    parts = [
        fingerprint(stream.words(1000)),
        fingerprint(stream.uniform((10, 100))),
        fingerprint(stream.normal((10, 100))),
        fingerprint(stream.rademacher((10, 100))),
        fingerprint(stream.integers(7, (1000,))),
        fingerprint(stream.permutation(1000)),
    ]
    assert hashlib.sha256("".join(parts).encode()).hexdigest()[:16] == GOLDEN[slot]


def test_words_are_those_of_philox_keyed_by_blake2b() -> None:
    key = int.from_bytes(hashlib.blake2b(b"1/a/2", digest_size=16).digest(), "little")
    expected = np.random.Philox(key=key).random_raw(5)
    np.testing.assert_array_equal(Stream(1, "a", 2).words(5), expected)


def test_first_words() -> None:
    assert [hex(word) for word in Stream(0, "doc").words(3)] == [
        "0xce8bec4bdf63f144",
        "0xa28309a2e762ae21",
        "0x37a65d0b60953002",
    ]


@given(seed=st.integers(0, 2**31), slot=st.text("abc/01", min_size=1), step=st.integers(0, 10**9))
def test_pure_function_of_seed_slot_and_step(seed: int, slot: str, step: int) -> None:
    words = Stream(seed, slot, step).words(2)
    np.testing.assert_array_equal(words, Stream(seed, slot, step).words(2))
    for other in (
        Stream(seed + 1, slot, step),
        Stream(seed, slot + "x", step),
        Stream(seed, slot, step + 1),
    ):
        assert (words != other.words(2)).any()


def test_a_shorter_draw_is_the_beginning_of_a_longer_one() -> None:
    stream = Stream(0, "prefix")
    np.testing.assert_array_equal(stream.normal((3, 4)), stream.normal((10, 4))[:3])


def test_empty_and_scalar_shapes() -> None:
    stream = Stream(0, "shape")
    assert stream.uniform((0, 4)).shape == (0, 4)
    assert stream.normal(()).shape == ()
    assert stream.permutation(1).tolist() == [0]


def test_uniform_is_uniform_and_inside_the_open_interval() -> None:
    u = Stream(0, "law/uniform").uniform((N,))
    assert u.min() > 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > FALSE_ALARM


@pytest.mark.parametrize(("word", "expected"), [(0, 2.0**-53), (2**64 - 1, 1.0 - 2.0**-53)])
def test_extreme_words_stay_off_zero_and_one(
    word: int, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def words(self: Stream, count: int) -> npt.NDArray[np.uint64]:
        return np.full(count, word, np.uint64)

    monkeypatch.setattr(Stream, "words", words)
    stream = Stream(0, "extreme")
    assert stream.uniform((1,))[0] == expected
    assert abs(stream.normal((1,))[0]) == pytest.approx(8.2095, abs=1e-4)
    assert stream.integers(5, (1,))[0] in (0, 4)


def test_normal_is_normal() -> None:
    x = Stream(0, "law/normal").normal((N,))
    assert stats.kstest(x, "norm").pvalue > FALSE_ALARM
    bound = stats.norm.isf(FALSE_ALARM / 2)
    assert abs(x.mean()) < bound / np.sqrt(N)
    assert abs(x.var() - 1) < bound * np.sqrt(2 / N)
    assert abs(np.mean(x**4) - 3) < bound * np.sqrt(96 / N)


def test_rademacher_is_balanced_int8() -> None:
    signs = Stream(0, "law/rademacher").rademacher((N,))
    assert signs.dtype == np.int8
    assert set(np.unique(signs)) == {-1, 1}
    assert stats.binomtest(int((signs == 1).sum()), N).pvalue > FALSE_ALARM


@pytest.mark.parametrize("high", [1, 2, 7, 1000])
def test_integers_are_uniform(high: int) -> None:
    drawn = Stream(0, "law/integers").integers(high, (N,))
    counts = np.bincount(drawn, minlength=high)
    assert len(counts) == high
    if high > 1:
        assert stats.chisquare(counts).pvalue > FALSE_ALARM


def test_permutation_is_one_and_every_order_is_equally_likely() -> None:
    assert sorted(Stream(0, "law/permutation").permutation(100)) == list(range(100))
    orders = [tuple(Stream(0, "law/permutation", step).permutation(3)) for step in range(6000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > FALSE_ALARM


def test_neighbouring_streams_are_uncorrelated() -> None:
    bound = stats.norm.isf(FALSE_ALARM / 2) / np.sqrt(N)
    x = Stream(0, "a").normal((N,))
    for other in (Stream(1, "a"), Stream(0, "b"), Stream(0, "a", 1)):
        assert abs(np.mean(x * other.normal((N,)))) < bound
    assert abs(np.mean(x[1:] * x[:-1])) < bound


def test_inverse_normal_cdf_agrees_with_scipy() -> None:
    centre = np.linspace(1e-3, 1 - 1e-3, 100_001)
    tail = np.logspace(-300, -3, 10_001)
    np.testing.assert_allclose(inverse_normal_cdf(tail), special.ndtri(tail), rtol=2e-15)
    np.testing.assert_allclose(
        inverse_normal_cdf(centre), special.ndtri(centre), rtol=3e-15, atol=1e-16
    )


@given(st.integers(1, 2**51))
def test_inverse_normal_cdf_is_odd(cell: int) -> None:
    p = cell * 2.0**-52
    low, high = inverse_normal_cdf(np.array([p, 1.0 - p]))
    assert low == -high


@pytest.mark.parametrize("skip", [0, 1, 4, 7, 1001])
def test_a_stream_may_begin_anywhere(skip: int) -> None:
    whole = Stream(3, "probe/0", 2).words(1100)
    np.testing.assert_array_equal(Stream(3, "probe/0", 2, skip).words(50), whole[skip : skip + 50])
