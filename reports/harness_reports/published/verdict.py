"""How a result compares with a published value: the one rule behind every verdict.

Two means agree if they differ by no more than a tolerance: the half-width of the 95 % interval of
their difference, plus half a unit of the last printed digit. What the interval rests on depends on
what is known of the spread over training runs:

- both spreads known: Welch's interval for two means;
- ours only: the interval in which the mean of as many runs as were published (one, if that is not
  known) would fall if they scatter as ours do. A spread over test points counts as none: both
  models are scored on the same rows, so it says nothing about their difference;
- the published one only (we have one seed): the same with the roles exchanged;
- neither: no interval, the rounding alone. A difference beyond it is *undecided*, since another
  seed might remove it; the Gaussian in closed form has no seeds, so there it *differs*.

A wide tolerance makes agreement easy, so every verdict prints it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from harness.statistics import Summary
from harness_reports.page.numbers import fixed
from harness_reports.published.values import METRICS, VARIANTS, PublishedValue

__all__ = [
    "KINDS",
    "LEVEL",
    "Verdict",
    "difference_of_datasets",
    "difference_of_metrics",
    "look_alikes",
    "tolerance",
    "verdict",
]

LEVEL = 0.95

Kind = Literal["reproduced", "differs", "undecided", "not comparable", "not run"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_READING = "the published figure is a 3-D reading of the rows, not a distance in D dimensions"
_APPROXIMATE = (
    "the published figure comes from an approximate routine, 23 to 29 % above the exact optimum"
)
_RECONSTRUCTIONS = "the published figure is of reconstructions, not of draws from the prior"
_NO_KERNEL = "what the paper calls MMD is no maximum mean discrepancy"

_PAIRS: Mapping[tuple[str, str], str] = {
    ("emd_3d_reading", "emd_3d_reading_approximate"): _APPROXIMATE,
    ("min_emd_3d_reading", "min_emd_3d_reading_approximate"): _APPROXIMATE,
    ("emd", "emd_3d_reading_approximate"): _READING,
    ("min_emd", "min_emd_3d_reading_approximate"): _READING,
    ("cov_l2_prior", "cov_l2_recon"): _RECONSTRUCTIONS,
    ("mmd_l2_prior", "mmd_l2_recon"): _RECONSTRUCTIONS,
    ("mmd_kernel", "min_cd"): _NO_KERNEL,
    ("mmd_kernel", "min_emd_3d_reading_approximate"): _NO_KERNEL,
    ("mmd_kernel", "mmd_l2_recon"): _NO_KERNEL,
}


@dataclass(frozen=True)
class Verdict:
    """How our mean compares with a published value.

    Arguments:
        kind: The verdict.
        difference: Our mean minus the published value, in its unit; None if not compared.
        tolerance: Largest difference that counts as reproduced.
        better: True if the difference is to our advantage; None if not compared, if there is no
            difference, or if neither direction is better.
        decimals: Decimals of the published value; differences are printed with one more.
        reason: Why the two are not compared, or what the tolerance rests on.
    """

    kind: Kind
    difference: float | None = None
    tolerance: float | None = None
    better: bool | None = None
    decimals: int = 0
    reason: str = ""

    def __str__(self) -> str:
        if self.difference is None or self.tolerance is None:
            return f"{self.kind}: {self.reason}" if self.reason else self.kind
        digits = self.decimals + 1
        sign = "+" if self.difference > 0 else ""
        size = f"{sign}{fixed(self.difference, digits)}"
        bound = fixed(self.tolerance, digits)
        if self.kind == "reproduced":
            return f"reproduced: {size}, within {bound}"
        if self.kind == "undecided":
            return f"undecided: {size}, and no spread over runs is known"
        side = "" if self.better is None else " (better)" if self.better else " (worse)"
        return f"differs by {size}{side}, beyond {bound}"


def verdict(
    ours: Summary | None,
    value: PublishedValue,
    *,
    dataset: str | None = None,
    metric: str | None = None,
    incomparable: str | None = None,
) -> Verdict:
    """Compares our mean over seeds with a published value.

    Arguments:
        ours: Mean, standard deviation and number of finished trials; None if there are none.
        value: The published value.
        dataset: Our dataset's name, if it may differ from the published one: a part of it
            (`power-partial`), other splits (`caltech-silhouettes-resplit`).
        metric: Our metric's name, if it may differ from the published one.
        incomparable: Any other reason against a comparison that the caller knows of, e.g. another
            architecture, fewer rows or fewer samplings.

    Returns:
        `not run` without trials; `not comparable` with the first reason that holds; `reproduced`,
        `differs` or `undecided` otherwise.
    """
    if ours is None:
        return Verdict("not run")
    reason = (
        difference_of_metrics(metric or value.metric, value.metric)
        or difference_of_datasets(dataset or value.dataset, value.dataset)
        or ("recalled, not seen in a source" if value.from_memory else None)
        or incomparable
    )
    if reason:
        return Verdict("not comparable", reason=reason)
    difference = ours.mean - value.value
    bound, basis = tolerance(ours, value)
    better = None
    if difference and value.direction != "neither":
        better = (difference < 0) == (value.direction == "lower")
    # Decimal fractions are not exact in binary: 1.005 - 1 must not exceed 0.005.
    if abs(difference) <= bound * (1 + 1e-9) + 1e-12:
        kind: Kind = "reproduced"
    else:
        kind = "differs" if _noise_known(ours, value) else "undecided"
    return Verdict(kind, difference, bound, better, value.decimals, basis)


def _noise_known(ours: Summary, value: PublishedValue) -> bool:
    """True if something is known of the spread over runs, or there are no runs to scatter."""
    closed_form = value.metric.startswith("gaussian_")
    return closed_form or ours.sd is not None or value.spread_kind == "sd_over_runs"


def tolerance(ours: Summary, value: PublishedValue) -> tuple[float, str]:
    """Largest difference of the means that counts as agreement, and what it rests on, in words."""
    theirs = value.spread if value.spread_kind == "sd_over_runs" else None
    if ours.sd is not None and theirs is not None:
        # A spread over runs needs two; where their number is not known, take no more.
        runs = value.runs or 2
        own_part, other_part = ours.sd**2 / ours.n, theirs**2 / runs
        error = math.sqrt(own_part + other_part)
        parts = own_part**2 / (ours.n - 1) + other_part**2 / max(1, runs - 1)
        freedom = error**4 / parts if parts else math.inf
        basis = f"spread over our {ours.n} seeds and over the published runs"
    elif ours.sd is not None:
        error = ours.sd * math.sqrt(1 / ours.n + 1 / (value.runs or 1))
        freedom = ours.n - 1
        basis = f"spread over our {ours.n} seeds; none over runs is published"
    elif theirs is not None:
        runs = value.runs or 2
        error = theirs * math.sqrt(1 / ours.n + 1 / runs)
        freedom = max(1, runs - 1)
        basis = "spread over the published runs; we have one seed"
    else:
        return value.half_digit, "rounding of the published value; no spread over runs is known"
    return _quantile(freedom) * error + value.half_digit, basis


def difference_of_metrics(ours: str, theirs: str) -> str | None:
    """Why two metrics do not compare; None if they are the same."""
    if ours == theirs:
        return None
    return _PAIRS.get((ours, theirs), f"{ours} and {theirs} are different quantities")


def look_alikes(theirs: str) -> tuple[str, ...]:
    """Metrics of the same unit that a reader may take for a published one, the closest first."""
    unit = METRICS[theirs].unit
    return tuple(a for a, b in _PAIRS if b == theirs and METRICS[a].unit == unit)


def difference_of_datasets(ours: str, theirs: str) -> str | None:
    """Why results on two datasets do not compare; None if set-ups may say that they do."""
    if theirs in (ours, VARIANTS.get(ours)):
        return None
    if ours == f"{theirs}-partial":
        return f"trained and tested on a part of {theirs}"
    return f"another dataset than {theirs}"


def _quantile(freedom: float) -> float:
    """Two-sided quantile of Student's t at `LEVEL`."""
    from scipy.special import ndtri, stdtrit

    upper = 0.5 + LEVEL / 2
    return float(ndtri(upper) if math.isinf(freedom) else stdtrit(freedom, upper))
