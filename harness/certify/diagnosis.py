"""What a wrong log p looks like: the values that common faults would give."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from harness.certify.closed_forms import ClosedForm, Rows, standard_normal_log_p
from harness.certify.frameworks import FRAMEWORKS

__all__ = ["FAULTS", "looks_like"]


def _parts(form: ClosedForm, x: Rows) -> tuple[Rows, Rows]:
    z, log_det = form.pull(x)
    return standard_normal_log_p(z), log_det


def _wrong_sign(form: ClosedForm, x: Rows) -> Rows:
    base, log_det = _parts(form, x)
    return base - log_det


def _no_log_det(form: ClosedForm, x: Rows) -> Rows:
    return _parts(form, x)[0]


def _twice(form: ClosedForm, x: Rows) -> Rows:
    base, log_det = _parts(form, x)
    return base + 2 * log_det


def _half(form: ClosedForm, x: Rows) -> Rows:
    base, log_det = _parts(form, x)
    return base + 0.5 * log_det


def _no_constant(form: ClosedForm, x: Rows) -> Rows:
    return form.log_p(x) + 0.5 * form.dim * math.log(2 * math.pi)


def _no_base(form: ClosedForm, x: Rows) -> Rows:
    return _parts(form, x)[1]


def _backwards(form: ClosedForm, x: Rows) -> Rows:
    beyond = form.push(x)
    return np.asarray(standard_normal_log_p(beyond) - form.pull(beyond)[1])


def _until_one(form: ClosedForm, x: Rows) -> Rows:
    return dataclasses.replace(form, end_time=1.0).log_p(x)


def _one_euler_step(form: ClosedForm, x: Rows) -> Rows:
    field = FRAMEWORKS["numpy"]().field(dataclasses.replace(form, image=None), "float64")
    z = x - form.end_time * field(form.end_time, x)
    step = 1e-20j * np.eye(form.dim)
    trace = sum(field(form.end_time, x + step[i])[:, i].imag / 1e-20 for i in range(form.dim))
    return np.asarray(standard_normal_log_p(z) - form.end_time * trace)


FAULTS: Mapping[str, Callable[[ClosedForm, Rows], Rows]] = {
    "the log determinant has the wrong sign": _wrong_sign,
    "the log determinant is missing": _no_log_det,
    "the log determinant counts twice": _twice,
    "the log determinant counts half": _half,
    "the base density lacks its constant, D/2 log 2 pi": _no_constant,
    "the base density is missing": _no_base,
    "time runs the wrong way: data were put at t = 0": _backwards,
    "the end time is taken for 1": _until_one,
    "the solve is one Euler step": _one_euler_step,
}


def looks_like(form: ClosedForm, x: Rows, got: Rows, tolerance: float) -> str:
    """Names the fault that gives these values instead of log p; empty if none does.

    Arguments:
        form: The closed form.
        x: Rows of data.
        got: What stands for their log p.
        tolerance: Nats within which values are the same.
    """
    right = form.log_p(x)
    for name, fault in FAULTS.items():
        wrong = fault(form, x)
        shows = np.abs(wrong - right).max() > 10 * tolerance
        if shows and np.abs(got - wrong).max() <= tolerance:
            return name
    return ""
