"""Means and minima over samplings, their checkpoint, and the cost of metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.costs import cost
from harness.metrics.definitions import DEFINITIONS, IMAGE_METRICS, ROW_METRICS
from harness.metrics.samplings import MINIMA, Samplings


def test_mean_minimum_and_spread() -> None:
    samplings = Samplings()
    for value in (3.0, 1.0, 2.0):
        samplings.add({"cd": value, "mmd_kernel": value / 10})
    metrics = samplings.metrics()
    assert metrics["cd"] == {"value": 2.0, "unit": "distance²", "n": 3, "sd": 1.0}
    assert metrics["min_cd"] == {"value": 1.0, "unit": "distance²", "n": 3}
    assert "min_mmd_kernel" not in metrics


def test_one_sampling_has_no_spread_and_none_has_no_value() -> None:
    samplings = Samplings()
    assert samplings.metrics() == {}
    samplings.add({"emd": 0.5})
    assert "sd" not in samplings.metrics()["emd"]


_VALUES = st.lists(st.floats(0, 1e3), max_size=8)


@given(before=_VALUES, after=_VALUES)
def test_a_restored_state_continues_with_the_same_numbers(
    before: list[float], after: list[float]
) -> None:
    whole, first = Samplings(), Samplings()
    for value in before:
        first.add({"cd": value, "emd": 2 * value})
    restored = Samplings.from_state({**first.state(), "model/weight": np.zeros(3)})
    assert restored.count == len(before)
    for value in before + after:
        whole.add({"cd": value, "emd": 2 * value})
    for value in after:
        restored.add({"cd": value, "emd": 2 * value})
    assert restored.metrics() == whole.metrics()
    np.testing.assert_array_equal(restored.values("emd"), whole.values("emd"))


def test_samplings_refuse_what_does_not_belong() -> None:
    samplings = Samplings()
    samplings.add({"cd": 1.0})
    with pytest.raises(ValueError, match="metrics"):
        samplings.add({"emd": 1.0})
    with pytest.raises(ValueError, match="finite"):
        samplings.add({"cd": float("nan")})
    assert samplings.count == 1
    with pytest.raises(ValueError, match="different lengths"):
        Samplings.from_state({"samplings/cd": np.zeros(2), "samplings/emd": np.zeros(3)})


def test_minima_are_defined_with_the_unit_of_their_metric() -> None:
    for name, least in MINIMA.items():
        assert DEFINITIONS[least].unit == DEFINITIONS[name].unit


@pytest.mark.parametrize("metric", [*ROW_METRICS, *IMAGE_METRICS])
def test_cost_grows_with_rows_and_samplings(metric: str) -> None:
    one, more = cost(metric, 1000, 21), cost(metric, 20_000, 21)
    assert 0 < one.seconds < more.seconds
    assert 0 < one.bytes <= more.bytes
    hundred = cost(metric, 1000, 21, samplings=100)
    assert hundred.seconds == pytest.approx(100 * one.seconds)
    assert hundred.bytes == one.bytes


def test_exact_emd_of_the_published_size_takes_minutes_and_gigabytes() -> None:
    spent = cost("emd", 20_000, 21)
    assert spent.bytes == 3_200_000_000
    assert 60 < spent.seconds < 3600
