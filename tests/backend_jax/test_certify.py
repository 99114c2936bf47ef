"""The likelihood kit passes diffrax by hand."""

from __future__ import annotations

import diffrax_by_hand as by_hand
import pytest

from harness.certify import certify


# A compilation for each field and shape: twenty.
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_diffrax_by_hand_is_certified() -> None:
    certificate = certify(by_hand.build, framework="jax", estimated=by_hand.build_estimated)
    assert certificate.ok, str(certificate)
    assert certificate.count("not run") == 0
