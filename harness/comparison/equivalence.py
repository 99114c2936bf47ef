"""Is one side worse, better or the same within a margin? Paired differences and their bounds.

Positive differences are losses of the second side. A bound is one-sided at level `alpha`; both
bounds within the margin are the two one-sided tests of equivalence.

References:
    Schuirmann, A Comparison of the Two One-Sided Tests Procedure and the Power Approach for
    Assessing the Equivalence of Average Bioavailability, J. Pharmacokinetics Biopharm. 15 (1987).
    Welch, The Generalization of Student's Problem, Biometrika 34 (1947).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Effect", "combined", "effect"]

Outcome = Literal["same", "worse", "better", "undecided", "one pair"]


@dataclass(frozen=True)
class Effect:
    """A mean difference, what bounds it, and what follows.

    Arguments:
        n: Number of pairs.
        estimate: Mean difference, second side minus first; positive is a loss.
        low: Lower bound; None for one pair, which says nothing of its own error.
        high: Upper bound.
        margin: Differences up to this count as none.
        outcome: `worse` and `better` are by more than the margin, `same` is within it.
    """

    n: int
    estimate: float
    low: float | None
    high: float | None
    margin: float
    outcome: Outcome


def effect(
    differences: Sequence[float], margin: float, alpha: float, exact: float = 0.0
) -> Effect:
    """The verdict on paired differences.

    Arguments:
        differences: One a pair, finite.
        margin: Of equivalence.
        alpha: Level of each bound.
        exact: If no difference is larger than this the sides are the same, however few there are:
            what is computed to the last digits has no noise.

    Raises:
        ValueError: There is no difference.
    """
    n = len(differences)
    if n == 0:
        raise ValueError("no pairs")
    mean = math.fsum(differences) / n
    same = max(map(abs, differences)) <= exact
    if n == 1:
        return Effect(n, mean, None, None, margin, "same" if same else "one pair")
    low, high = _bounds(mean, _variance(differences) / n, n - 1, alpha)
    outcome = "same" if same else _outcome(low, high, margin)
    return Effect(n, mean, low, high, margin, outcome)


def combined(groups: Sequence[Sequence[float]], margin: float, alpha: float) -> Effect | None:
    """The verdict on the mean over groups, each group counting the same.

    The groups are the ones of interest, not a sample of more: only the pairs within them vary.

    Arguments:
        groups: Differences by group; those of one pair are left out, since they bound nothing.
        margin: Of equivalence.
        alpha: Level of each bound.

    Returns:
        None if no group has two pairs.
    """
    whole = [group for group in groups if len(group) > 1]
    if not whole:
        return None
    k = len(whole)
    mean = math.fsum(math.fsum(group) / len(group) for group in whole) / k
    parts = [(_variance(group) / len(group) / k**2, len(group) - 1) for group in whole]
    variance = math.fsum(part for part, _ in parts)
    # Welch and Satterthwaite: degrees of freedom of a sum of variances.
    below = math.fsum(part**2 / freedom for part, freedom in parts)
    freedom = variance**2 / below if below else float(sum(freedom for _, freedom in parts))
    low, high = _bounds(mean, variance, freedom, alpha)
    n = sum(map(len, whole))
    return Effect(n, mean, low, high, margin, _outcome(low, high, margin))


def _bounds(mean: float, variance: float, freedom: float, alpha: float) -> tuple[float, float]:
    # scipy takes a third of a second to import; only a comparison pays for it.
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, 1 - alpha)) * math.sqrt(variance)
    return mean - half, mean + half


def _outcome(low: float, high: float, margin: float) -> Outcome:
    if low > margin:
        return "worse"
    if high < -margin:
        return "better"
    return "same" if -margin <= low and high <= margin else "undecided"


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
