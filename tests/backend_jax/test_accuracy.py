"""Errors of a solver and an engine against the reference of the same weights."""

from __future__ import annotations

import pytest
from accuracy_cases import EULER, errors


def test_errors_do_not_depend_on_the_engine() -> None:
    # As torch's in size; that they fall with the order is held there, where nothing compiles.
    (coarse, slope), (by_library, its_slope) = errors(
        "jax", "direct", ((EULER, None), (EULER, "library"))
    )
    assert 1e-3 < coarse < 0.3
    assert 1e-3 < slope < 0.5
    assert by_library == pytest.approx(coarse, rel=1e-9)
    assert its_slope == pytest.approx(slope, rel=1e-9)
