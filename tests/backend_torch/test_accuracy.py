"""Errors of a solver and an engine against the reference of the same weights."""

from __future__ import annotations

import pytest
from accuracy_cases import EULER, RK4, errors

from harness.trial import Training


def test_errors_fall_with_the_order_and_do_not_depend_on_the_engine() -> None:
    (coarse, slope), (by_library, its_slope), (fine, its_gradient) = errors(
        "torch", "direct", ((EULER, None), (EULER, "library"), (RK4, None))
    )
    assert 1e-3 < coarse < 0.3
    assert 1e-3 < slope < 0.5
    assert by_library == pytest.approx(coarse, rel=1e-9)
    assert its_slope == pytest.approx(slope, rel=1e-9)
    assert fine < 1e-3 * coarse
    assert its_gradient < 1e-2 * slope


def test_the_gradient_is_taken_with_the_probes_of_the_training() -> None:
    training = Training(trace="hutchinson", draws=3)
    ((_, slope),) = errors("torch", "direct", ((RK4, None),), training)
    assert 0 < slope < 0.1
