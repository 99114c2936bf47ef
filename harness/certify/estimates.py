"""Checks of an estimated trace: its mean, its spread, and the mean of its gradient.

Means are held to the closed form at a stated false-alarm rate.

With one probe e for the whole solve of a linear field, log p varies as T e^T S e with S the
symmetric part of A: by Rademacher probes with variance 2 T^2 (|S|^2 - sum S_ii^2), by Gaussian
ones with 2 T^2 |S|^2 (Hutchinson 1990). Several probes, or fresh ones at every evaluation, vary
less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist

import numpy as np

from harness.certify import forms
from harness.certify.certificate import Finding
from harness.certify.checks import Subject
from harness.certify.closed_forms import Rows
from harness.certify.frameworks import Build

__all__ = ["ESTIMATE_CHECKS", "FALSE_ALARM"]

FALSE_ALARM = 1e-6
"""Chance that an unbiased estimate is called biased."""

CALLS, ROWS = 4, 1024
LEAST_DRAWS = 30
SPREAD_ROOM = 1.25
"""A standard deviation of a thousand heavy-tailed draws is itself uncertain by some percent."""


def _given(subject: Subject) -> Build:
    if subject.estimated is None:
        raise NotImplementedError("no builder with an estimated trace was given")
    return subject.estimated


def _gaussian_deviation() -> float:
    """Standard deviation of log p by one Gaussian probe, in nats."""
    symmetric = (forms.TRACE.matrix + forms.TRACE.matrix.T) / 2
    return forms.TRACE.end_time * math.sqrt(2 * (symmetric**2).sum())


def _draws(subject: Subject) -> tuple[Rows, float]:
    """Independent draws of the estimated log p of one row, and its closed form.

    Raises:
        NotImplementedError: There is no second builder.
        ValueError: The draws are too few to judge.
    """
    form = forms.TRACE
    row = forms.data(form)[:1]
    estimating = Subject(_given(subject), None, subject.framework, subject.tolerance)
    log_prob = estimating.log_prob_of(form)(subject.framework.field(form, "float64"))
    x = np.repeat(row, ROWS, axis=0)
    calls = [estimating.values(log_prob, form, x) for _ in range(CALLS)]
    # A builder may draw its probes once for all calls, or one probe for all rows of a call.
    different = np.unique(np.stack(calls), axis=0)
    shared = np.ptp(different, axis=1).max() <= subject.tolerance
    draws = different[:, 0] if shared and len(different) > 1 else different.ravel()
    if len(draws) < LEAST_DRAWS:
        raise ValueError(
            f"one probe for a whole batch leaves {len(draws)} draws: too few to judge"
        )
    return draws, float(form.log_p(row)[0])


def _unbiased(what: str, subject: Subject) -> Finding:
    draws, expected = _draws(subject)
    from scipy.special import stdtrit

    mean = float(draws.mean())
    error = float(draws.std(ddof=1)) / math.sqrt(len(draws))
    allowed = float(stdtrit(len(draws) - 1, 1 - FALSE_ALARM / 2)) * error + subject.tolerance
    note = (
        f"standard error {error:.4f} nats of {len(draws)} draws, "
        f"{allowed:.4f} allowed at a false-alarm rate of {FALSE_ALARM:.0e}"
    )
    fine = abs(mean - expected) <= allowed
    return Finding(what, f"{expected:.4f}", f"{mean:.4f}", "ok" if fine else "FAIL", note)


def _spread(what: str, subject: Subject) -> Finding:
    draws, _ = _draws(subject)
    gaussian = _gaussian_deviation()
    diagonal = 2 * forms.TRACE.end_time**2 * (np.diag(forms.TRACE.matrix) ** 2).sum()
    rademacher = math.sqrt(gaussian**2 - diagonal)
    got = float(draws.std(ddof=1))
    fine = got <= SPREAD_ROOM * gaussian
    note = "standard deviation of one draw, nats: one Rademacher probe, one Gaussian"
    if got <= subject.tolerance:
        note = "no spread: this trace is not estimated"
    expected = f"{rademacher:.3f}, {gaussian:.3f}"
    return Finding(what, expected, f"{got:.3f}", "ok" if fine else "FAIL", note)


def _gradient(what: str, subject: Subject) -> Finding:
    """The mean gradient over many draws; a trace without a gradient of its own biases it."""
    form = forms.TRACE
    row = forms.data(form)[:1]
    _draws(subject)
    estimating = Subject(_given(subject), None, subject.framework, subject.tolerance)
    x = subject.framework.array(np.repeat(row, CALLS * ROWS, axis=0), "float64")
    log_prob_of = estimating.log_prob_of(form)
    got = subject.framework.gradient(form, log_prob_of, x) / (CALLS * ROWS)
    expected = form.gradient(row)
    # The gradient's random part is T e^T S e again, here with theta = 1.
    error = _gaussian_deviation() / math.sqrt(CALLS * ROWS)
    allowed = NormalDist().inv_cdf(1 - FALSE_ALARM / 2) * error + subject.tolerance
    fine = abs(got - expected) <= allowed
    note = f"{allowed:.4f} allowed at a false-alarm rate of {FALSE_ALARM:.0e}"
    return Finding(what, f"{expected:.4f}", f"{got:.4f}", "ok" if fine else "FAIL", note)


ESTIMATE_CHECKS: Mapping[str, Callable[[str, Subject], Finding]] = {
    "estimated trace, mean": _unbiased,
    "estimated trace, spread": _spread,
    "estimated trace, gradient": _gradient,
}
