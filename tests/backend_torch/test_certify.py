"""The likelihood kit passes torchdiffeq by hand, and finds gradients that are cut off."""

from __future__ import annotations

from typing import Any

import torch
import torchdiffeq_by_hand as by_hand

from harness.certify import certify
from harness.certify.forms import TRACE


def test_torchdiffeq_by_hand_is_certified() -> None:
    certificate = certify(by_hand.build, framework="torch", estimated=by_hand.build_estimated)
    assert certificate.ok, str(certificate)
    assert certificate.count("not run") == 0


def test_a_gradient_that_is_cut_off_is_found() -> None:
    def build(field: Any, dim: int) -> Any:
        log_prob, _ = by_hand.build(field, dim)
        return lambda x: log_prob(x).detach()

    certificate = certify(build, framework="torch")
    failed = {row.what: row.note for row in certificate.findings if row.verdict == "FAIL"}
    assert failed == {
        "gradient of log p": "log p is cut off from the parameter: it has no gradient"
    }


def test_half_a_gradient_is_found() -> None:
    def build(field: Any, dim: int) -> Any:
        log_prob, _ = by_hand.build(field, dim)
        return lambda x: (log_prob(x) + log_prob(x).detach()) / 2

    certificate = certify(build, framework="torch")
    assert [row.what for row in certificate.findings if row.verdict == "FAIL"] == [
        "gradient of log p"
    ]


def test_an_estimated_trace_without_a_gradient_is_found() -> None:
    def build(field: Any, dim: int) -> Any:
        log_prob, _ = by_hand.build_estimated(field, dim)
        matrix = torch.as_tensor(TRACE.matrix)

        def cut(x: Any) -> Any:
            """A trace that backpropagation does not see leaves the gradient of log N(z)."""
            z = x @ torch.matrix_exp(-field.theta * matrix).T
            base = -0.5 * (z**2).sum(1)
            return log_prob(x).detach() + base - base.detach()

        return cut

    certificate = certify(by_hand.build, framework="torch", estimated=build)
    assert [row.what for row in certificate.findings if row.verdict == "FAIL"] == [
        "estimated trace, gradient"
    ]
