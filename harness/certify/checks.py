"""The checks: each sets a library's flow of one closed form against it, and returns a finding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.certify import forms
from harness.certify.certificate import Finding
from harness.certify.closed_forms import ClosedForm, Rows
from harness.certify.diagnosis import looks_like
from harness.certify.frameworks import Build, Framework

__all__ = ["CHECKS", "Subject"]

FLOAT32_ERROR = 1e-3
"""Nats: what float32 leaves of a log p of a few nats, with room for a solver's own tolerance."""

FINE, COARSE = 1e-7, 1e-3
"""Distances from a row: float32 tells the coarse ones apart and not the fine ones."""

SLOPE_ERROR = 0.05
"""Nats a unit of length: rounding to float32 makes slopes over 2 FINE wrong by about 1."""


@dataclass(frozen=True)
class Subject:
    """The library under test.

    Arguments:
        build: Makes `log_prob`, or `log_prob` and `sample`, of a field.
        estimated: The same with an estimated trace, if the library has one.
        framework: Its framework.
        tolerance: Largest error of log p that is accepted in float64, in nats.
    """

    build: Build
    estimated: Build | None
    framework: Framework
    tolerance: float

    def log_prob_of(self, form: ClosedForm) -> Callable[[Any], Any]:
        """Makes log_prob of a field of the form."""
        return lambda field: _pair(self.build(field, form.dim))[0]

    def log_p_of(self, form: ClosedForm, dtype: str = "float64") -> Callable[[Rows], Rows]:
        """The library's log p as a function of rows of D numbers; the flow is built once.

        Raises:
            ValueError: Its shape or its precision is not that of the rows.
        """
        log_prob = self.log_prob_of(form)(self.framework.field(form, dtype))
        return lambda x: self.values(log_prob, form, x, dtype)

    def values(
        self, log_prob: Callable[[Any], Any], form: ClosedForm, x: Rows, dtype: str = "float64"
    ) -> Rows:
        """What a log_prob makes of rows, checked for shape and precision."""
        rows = self.framework.array(x.reshape(-1, *form.shape), dtype)
        return checked(self.framework.numpy(log_prob(rows)), (len(x),), dtype, "log p")


def checked(values: np.ndarray[Any, Any], shape: tuple[int, ...], dtype: str, what: str) -> Rows:
    """The values in float64, once they have the shape and the precision that were asked for."""
    if values.shape != shape:
        raise ValueError(f"{what} of shape {shape} expected, got {values.shape}")
    if values.dtype != dtype:
        raise ValueError(f"{what} in {dtype} expected, got {values.dtype}")
    return values.astype(np.float64)


def _pair(built: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any] | None]:
    return built if isinstance(built, tuple) else (built, None)


def compared(
    what: str, expected: Rows, got: Rows, allowed: float, note: str = "", unit: str = "nats"
) -> Finding:
    """The finding on two arrays: their entries of largest difference."""
    # NaN counts as the largest.
    worst = int(np.argmax(np.abs(got - expected)))
    error = abs(float(got.flat[worst] - expected.flat[worst]))
    fine = error <= allowed
    off = f"off by {error:.1e} {unit}, {allowed:.0e} allowed"
    return Finding(
        what,
        f"{expected.flat[worst]:.6f}",
        f"{got.flat[worst]:.6f}",
        "ok" if fine else "FAIL",
        off if fine or not note else f"{off}; {note}",
    )


def _agrees(form: ClosedForm) -> Callable[[str, Subject], Finding]:
    """Log p of the form's own data."""

    def check(what: str, subject: Subject) -> Finding:
        x = forms.data(form)
        got = subject.log_p_of(form)(x)
        fault = looks_like(form, x, got, 3 * subject.tolerance)
        return compared(
            what, form.log_p(x), got, subject.tolerance, fault and f"looks like: {fault}"
        )

    return check


def _batch(what: str, subject: Subject) -> Finding:
    """A row's log p alone, and in a batch with others of which one is far out."""
    form = forms.NONLINEAR
    x = forms.data(form)
    x[-1] = (4.0, -3.0, 5.0)
    log_p = subject.log_p_of(form)
    together = log_p(x)
    alone = np.concatenate([log_p(row[None]) for row in x])
    finding = compared(what, alone, together, subject.tolerance)
    bitwise = bool((alone == together).all())
    return dataclasses.replace(finding, note="to the bit" if bitwise else finding.note)


def _float32(what: str, subject: Subject) -> Finding:
    form = forms.NONLINEAR
    x = forms.data(form).astype(np.float32).astype(np.float64)
    got = subject.log_p_of(form, "float32")(x)
    return compared(what, form.log_p(x), got, max(FLOAT32_ERROR, subject.tolerance))


def _float64(what: str, subject: Subject) -> Finding:
    """The slope of log p over a distance that float32 does not resolve, and over one it does.

    Both are the library's own, so its solver's error does not matter: it moves smoothly with x.
    Rounding to float32 anywhere on the way does not.
    """
    form = forms.NONLINEAR
    x = forms.data(form)
    log_p = subject.log_p_of(form)

    def slope(step: float) -> Rows:
        return (log_p(x + step) - log_p(x - step)) / (2 * step)

    allowed = max(SLOPE_ERROR, 10 * subject.tolerance)
    note = "some of it is computed in float32"
    return compared(what, slope(COARSE), slope(FINE), allowed, note, "nats a unit of length")


def _sampled(subject: Subject, form: ClosedForm, z: Rows) -> tuple[Rows, Any, Rows | None]:
    """Data that the library makes of z, its log_prob, and the log p that came with the data."""
    log_prob, sample = _pair(subject.build(subject.framework.field(form, "float64"), form.dim))
    if sample is None:
        raise NotImplementedError("build returned no sample")
    made = sample(subject.framework.array(z.reshape(-1, *form.shape), "float64"))
    x, log_p = made if isinstance(made, tuple) else (made, None)
    rows = checked(subject.framework.numpy(x), (len(z), *form.shape), "float64", "samples")
    if log_p is not None:
        log_p = checked(subject.framework.numpy(log_p), (len(z),), "float64", "log p of samples")
    return rows.reshape(len(z), -1), log_prob, log_p


def _samples(what: str, subject: Subject) -> Finding:
    form, z = forms.TIME_DEPENDENT, forms.noise(forms.TIME_DEPENDENT.dim)
    x, _, _ = _sampled(subject, form, z)
    return compared(what, form.push(z), x, subject.tolerance, unit="units of length")


def _both_ways(what: str, subject: Subject) -> Finding:
    """Log p of samples, as sampling gave it if it did, or as the map from z has it."""
    form, z = forms.NONLINEAR, forms.noise(forms.NONLINEAR.dim)
    x, log_prob, forward = _sampled(subject, form, z)
    known = form.log_p(form.push(z))
    expected = known if forward is None else forward
    return compared(what, expected, subject.values(log_prob, form, x), 2 * subject.tolerance)


def _gradient(what: str, subject: Subject) -> Finding:
    form = forms.NONLINEAR
    x = forms.data(form)
    rows = subject.framework.array(x, "float64")
    got = subject.framework.gradient(form, subject.log_prob_of(form), rows)
    # A sum over rows: errors of the rows add up.
    allowed = len(x) * subject.tolerance
    return compared(what, np.array([form.gradient(x)]), np.array([got]), allowed, unit="nats")


CHECKS: Mapping[str, Callable[[str, Subject], Finding]] = {
    "linear field": _agrees(forms.LINEAR),
    "one dimension": _agrees(forms.ONE_DIMENSION),
    "Gaussian to Gaussian": _agrees(forms.GAUSSIAN),
    "rotation": _agrees(forms.ROTATION),
    "quadratic potential": _agrees(forms.POTENTIAL),
    "nonlinear field": _agrees(forms.NONLINEAR),
    "time-dependent A(t)": _agrees(forms.TIME_DEPENDENT),
    "end time 0.5": _agrees(forms.SHORT),
    "end time 2": _agrees(forms.LONG),
    "image": _agrees(forms.IMAGE),
    "a row in a batch": _batch,
    "float32": _float32,
    "float64 throughout": _float64,
    "samples": _samples,
    "forward = backward": _both_ways,
    "gradient of log p": _gradient,
}
