"""Means, spreads, paired ratios and tests of equivalence, which tables and verdicts share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "EquivalenceTest",
    "Interval",
    "Summary",
    "equivalence_test",
    "holm",
    "mean_interval",
    "median_interval",
    "paired_ratio",
    "summarize",
]


@dataclass(frozen=True)
class Summary:
    """Location and spread of a few values.

    Arguments:
        n: Number of values.
        mean: Their mean.
        sd: Standard deviation with n - 1 in the denominator; None for one value, whose spread is
            unknown and not zero.
        low: Smallest value.
        high: Largest value.
    """

    n: int
    mean: float
    sd: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Arguments:
        n: Number of values (pairs) behind it.
        estimate: The point estimate.
        low: Lower end; None where the values are too few to say anything about their error.
        high: Upper end; None where they are.
        level: Coverage of the interval if the values are independent and, for a mean, normal.
    """

    n: int
    estimate: float
    low: float | None
    high: float | None
    level: float

    def excludes(self, value: float) -> bool:
        """True if there is an interval and `value` lies outside it."""
        return (
            self.low is not None and self.high is not None and not self.low <= value <= self.high
        )


@dataclass(frozen=True)
class EquivalenceTest:
    """Whether the mean of paired differences lies within a margin around zero, or beyond it.

    Arguments:
        within: p-value of the two one-sided tests (TOST): small if |mean| < margin is certain.
        beyond: p-value of the opposite: small if |mean| > margin is certain.
    """

    within: float
    beyond: float


def summarize(values: Iterable[float]) -> Summary | None:
    """Returns the summary of `values`, None if there are none.

    Raises:
        ValueError: A value is NaN or infinite; a failed trial has a status, not such a value.
    """
    finite = _finite(values)
    if not finite:
        return None
    mean = math.fsum(finite) / len(finite)
    return Summary(len(finite), mean, _sd(finite, mean), min(finite), max(finite))


def mean_interval(values: Iterable[float], level: float = 0.95) -> Interval | None:
    """Student's t interval of the mean of `values`; None if there are none.

    References:
        Student, The Probable Error of a Mean, Biometrika 6 (1908).

    Raises:
        ValueError: A value is not finite, or `level` is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, found {level}")
    finite = _finite(values)
    if not finite:
        return None
    n = len(finite)
    mean = math.fsum(finite) / n
    sd = _sd(finite, mean)
    if sd is None:
        return Interval(n, mean, None, None, level)
    # scipy takes a third of a second to import; only a report or a comparison pays for it.
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.5 + level / 2)) * sd / math.sqrt(n)
    return Interval(n, mean, mean - half, mean + half, level)


def median_interval(values: Iterable[float], level: float = 0.95) -> Interval | None:
    """Median with the interval of the sign test, for values of any distribution.

    Its ends are two of the values: the k-th smallest and the k-th largest, k the greatest rank
    with which they hold the median between them with at least the probability `level`. Five
    values have no such rank at 95 %, six have.

    References:
        Conover, Practical Nonparametric Statistics, section 3.4.

    Raises:
        ValueError: A value is not finite, or `level` is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, found {level}")
    ordered = sorted(_finite(values))
    if not ordered:
        return None
    n = len(ordered)
    # Both tails of Binomial(n, 1/2) below k are what the interval leaves out.
    outside, rank = 0.0, 0
    while rank < n:
        outside += 2 * math.comb(n, rank) * 0.5**n
        if outside > 1 - level:
            break
        rank += 1
    low, high = (ordered[rank - 1], ordered[n - rank]) if rank else (None, None)
    return Interval(n, statistics.median(ordered), low, high, level)


def paired_ratio(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval | None:
    """Geometric mean of a / b over pairs of positive values; the interval is of the mean log.

    Raises:
        ValueError: The lengths differ, or a value is not positive and finite.
    """
    logs = mean_interval([math.log(x) - math.log(y) for x, y in zip(a, b, strict=True)], level)
    if logs is None:
        return None
    low = None if logs.low is None else math.exp(logs.low)
    high = None if logs.high is None else math.exp(logs.high)
    return Interval(logs.n, math.exp(logs.estimate), low, high, level)


def equivalence_test(differences: Sequence[float], margin: float) -> EquivalenceTest | None:
    """Tests a mean against a margin in both directions; None for fewer than two values.

    One margin decides both, so that a difference which is certain and smaller than the margin
    counts as none. Values that agree to the last bit leave no doubt on either side.

    References:
        Schuirmann, A comparison of the two one-sided tests procedure and the power approach,
        J. Pharmacokinet. Biopharm. 15 (1987).

    Arguments:
        differences: One for each pair.
        margin: In their unit; positive.

    Raises:
        ValueError: A value is not finite, or the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"a margin is positive, found {margin}")
    summary = summarize(differences)
    if summary is None or summary.sd is None:
        return None
    room = margin - abs(summary.mean)
    if summary.sd == 0:
        return EquivalenceTest(float(room <= 0), float(room >= 0))
    from scipy.special import stdtr

    t = room / (summary.sd / math.sqrt(summary.n))
    # Beyond the margin on either side: two ways to be wrong.
    beyond = min(1.0, 2 * float(stdtr(summary.n - 1, t)))
    return EquivalenceTest(float(stdtr(summary.n - 1, -t)), beyond)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the same order.

    Below a level α, the chance that any of them is wrong is at most α, however they depend on one
    another.

    References:
        Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6 (1979).
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _finite(values: Iterable[float]) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"values must be finite, found {numbers}")
    return numbers


def _sd(values: Sequence[float], mean: float) -> float | None:
    if len(values) < 2:
        return None
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
