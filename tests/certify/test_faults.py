"""Every planted fault is found, by the check that is meant for it; without one the flow passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import planted
import pytest
from planted import Flow

from harness.certify import Certificate, Finding, certify


def probed(scale: float, spread: float = 0.0) -> Callable[..., Any]:
    """An estimate of the trace by fresh Gaussian probes times `scale`, plus noise."""
    random = np.random.default_rng(1)

    def trace(flow: Any, t: float, x: Any, dim: int) -> Any:
        probe = scale * random.standard_normal((len(x), dim))
        product = flow(t, x + 1e-20j * probe).imag / 1e-20
        return (product * probe).sum(1) + spread * random.standard_normal(len(x))

    return trace


def half_precision(base: Any, change: Any, z: Any) -> Any:
    """Log p by way of float32, handed on as float64."""
    return (base + change).astype(np.float32).astype(np.float64)


FAULTS: dict[str, tuple[Flow, str, str]] = {
    "sign": (
        Flow(log_p=lambda base, change, z: base - change),
        "linear field",
        "looks like: the log determinant has the wrong sign",
    ),
    "log det dropped": (
        Flow(log_p=lambda base, change, z: base),
        "quadratic potential",
        "looks like: the log determinant is missing",
    ),
    "factor 2": (
        Flow(log_p=lambda base, change, z: base + 2 * change),
        "image",
        "looks like: the log determinant counts twice",
    ),
    "half": (
        Flow(log_p=lambda base, change, z: base + change / 2),
        "nonlinear field",
        "looks like: the log determinant counts half",
    ),
    "base density's constant": (
        Flow(log_p=lambda base, change, z: change - 0.5 * (z**2).sum(1)),
        "rotation",
        "looks like: the base density lacks its constant, D/2 log 2 pi",
    ),
    "base density": (
        Flow(log_p=lambda base, change, z: change),
        "Gaussian to Gaussian",
        "looks like: the base density is missing",
    ),
    "base density of a wrong width": (
        Flow(log_p=lambda base, change, z: base - 0.01 * (z**2).sum(1) + change),
        "rotation",
        "",
    ),
    "data at t = 0": (
        Flow(ends=lambda end: (0.0, end)),
        "linear field",
        "looks like: time runs the wrong way: data were put at t = 0",
    ),
    "the field's time reversed": (
        Flow(clock=lambda t, end: end - t),
        "time-dependent A(t)",
        "",
    ),
    "T taken for 1": (
        Flow(ends=lambda end: (1.0, 0.0)),
        "end time 0.5",
        "looks like: the end time is taken for 1",
    ),
    "T squared": (Flow(ends=lambda end: (end**2, 0.0)), "end time 2", ""),
    "one Euler step": (
        Flow(solve=planted.euler),
        "Gaussian to Gaussian",
        "looks like: the solve is one Euler step",
    ),
    "batch-coupled": (
        Flow(log_p=lambda base, change, z: base + change - 0.01 * z.mean()),
        "a row in a batch",
        "",
    ),
    "float32 inside": (
        Flow(cast=lambda x: x.astype(np.float32)),
        "float64 throughout",
        "some of it is computed in float32",
    ),
    "float32 at the end": (
        Flow(log_p=half_precision),
        "float64 throughout",
        "some of it is computed in float32",
    ),
    "nan": (Flow(log_p=lambda base, change, z: base * np.nan), "linear field", ""),
    "a column": (
        Flow(log_p=lambda base, change, z: (base + change)[:, None]),
        "linear field",
        "log p of shape (8,) expected, got (8, 1)",
    ),
    "the mean over rows": (
        Flow(log_p=lambda base, change, z: (base + change).mean()),
        "one dimension",
        "log p of shape (8,) expected, got ()",
    ),
}


def finding(certificate: Certificate, what: str) -> Finding:
    """The finding of one check."""
    return next(found for found in certificate.findings if found.what == what)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    build, what, note = FAULTS[fault]
    certificate = certify(build, framework="numpy")
    assert not certificate.ok
    assert finding(certificate, what).verdict == "FAIL", str(certificate)
    assert note in finding(certificate, what).note


def test_without_a_fault_it_passes() -> None:
    certificate = certify(Flow(), framework="numpy", estimated=Flow(trace=probed(1.0)))
    assert certificate.ok, str(certificate)
    assert [found.what for found in certificate.findings if found.verdict == "not run"] == [
        "gradient of log p",
        "estimated trace, gradient",
    ]


def test_a_fault_of_one_check_fails_no_other() -> None:
    build, _, _ = FAULTS["batch-coupled"]
    certificate = certify(build, framework="numpy", tolerance=0.5)
    assert certificate.ok
    certificate = certify(FAULTS["float32 at the end"][0], framework="numpy")
    failed = [found.what for found in certificate.findings if found.verdict == "FAIL"]
    assert failed == ["float64 throughout"]


@pytest.mark.parametrize(
    ("trace", "what"),
    [
        (probed(1.05), "estimated trace, mean"),
        (probed(0.95), "estimated trace, mean"),
        (probed(1.0, spread=60.0), "estimated trace, spread"),
        (lambda *of: 1.05 * planted.exact(*of), "estimated trace, mean"),
    ],
    ids=["scaled up", "scaled down", "noisier than a probe", "exact and wrong"],
)
def test_a_bad_estimate_is_found(trace: Callable[..., Any], what: str) -> None:
    certificate = certify(Flow(), framework="numpy", estimated=Flow(trace=trace))
    assert finding(certificate, what).verdict == "FAIL", str(certificate)


def test_samples_of_another_flow_are_found() -> None:
    right, wrong = Flow(), Flow(solve=planted.euler)
    certificate = certify(
        lambda field, dim: (right(field, dim)[0], wrong(field, dim)[1]), framework="numpy"
    )
    failed = [found.what for found in certificate.findings if found.verdict == "FAIL"]
    assert failed == ["samples", "forward = backward"]
