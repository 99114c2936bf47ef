"""Metrics of samples: hand-computed sets, published reference figures, invariances."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter

from harness.errors import MetricError
from harness.metrics import sets
from harness.metrics.costs import cost
from harness.metrics.definitions import DEFINITIONS, IMAGE_METRICS, ROW_METRICS
from harness.metrics.floor import PUBLISHED_ROWS, floor_rows, reference_rows
from harness.metrics.paddingflow import planned_rows, protocol_cost
from harness.metrics.samplings import MINIMA
from harness.metrics.sets import Float, nearest
from harness.metrics.transport import (
    MAX_ROWS,
    emd,
    emd_3d_reading,
    emd_3d_reading_approximate,
    triples,
)
from harness.streams.stream import Stream
from harness.trial import SampleMetrics

cd, mmd_kernel = ROW_METRICS["cd"], ROW_METRICS["mmd_kernel"]
cov_l2, mmd_l2 = IMAGE_METRICS["cov_l2"], IMAGE_METRICS["mmd_l2"]


def gaussians(n: int, dimension: int, seed: int = 0) -> tuple[Float, Float]:
    """Two independent sets of standard normal rows."""
    both = Stream(seed, "test/sets").normal((2, n, dimension))
    return both[0], both[1]


def test_chamfer_by_hand() -> None:
    x, r = [[0.0, 0.0], [3.0, 0.0]], [[0.0, 1.0], [0.0, 2.0], [4.0, 0.0]]
    # To references: 1 and 1; to samples: 1, 4 and 1. Means, no root, no halving.
    assert cd(x, r) == pytest.approx((1 + 1) / 2 + (1 + 4 + 1) / 3)


def test_emd_by_hand_is_not_greedy() -> None:
    # The nearest pair, 1 and 0.9, would leave 3 for the other: 0.1 + 3 exceeds 0.9 + 2.
    assert emd([[0.0], [1.0]], [[0.9], [3.0]]) == pytest.approx((0.9 + 2.0) / 2)


def test_emd_is_the_least_over_all_permutations() -> None:
    x, r = gaussians(6, 4)
    least = min(
        np.linalg.norm(x - r[list(order)], axis=1).mean()
        for order in itertools.permutations(range(6))
    )
    assert emd(x, r) == pytest.approx(least, rel=1e-12)


def test_3d_reading_takes_the_first_numbers_of_the_buffer() -> None:
    rows = np.arange(20.0).reshape(4, 5)
    np.testing.assert_array_equal(triples(rows), np.arange(12.0).reshape(4, 3))
    x, r = gaussians(40, 5)
    assert emd_3d_reading(x, r) == pytest.approx(emd(triples(x), triples(r)), rel=1e-12)
    changed = x.copy()
    changed[24:] = 9.0  # numbers from 3 * 40 on are never read
    assert emd_3d_reading(changed, r) == emd_3d_reading(x, r)
    assert emd_3d_reading_approximate(changed, r) == emd_3d_reading_approximate(x, r)


def test_approximate_routine_by_hand() -> None:
    # One point each, at distance d <= 1/2: at tau = 4^7 the kernel is K, u = 1 / (1e-9 + K) and
    # s = K u; what is left of b and a goes to the next scale.
    d, left, right, total = 0.25, 1.0, 1.0, 0.0
    for power in range(7, -2, -1):
        kernel = math.exp(-(4.0**power) * d * d)
        u = left / (1e-9 + kernel * right)
        s = right * kernel * u
        moved = kernel * u * right * min(1.0, right / (s + 1e-9))
        right = max(0.0, right - s)
        left = max(0.0, left - moved)
        total += moved * d
    assert emd_3d_reading_approximate([[0, 0, 0]], [[0, 0, d]]) == pytest.approx(total, rel=1e-12)
    assert total == pytest.approx(d, rel=1e-6)


def test_mmd_kernel_by_hand() -> None:
    e1, e4, e9 = math.exp(-1), math.exp(-4), math.exp(-9)
    # x = {0, 1}, r = {3}: 2 + 2 e^-1 over 4, plus 1, minus (e^-9 + e^-4).
    expected = (2 + 2 * e1) / 4 + 1 - 2 * (e9 + e4) / 2
    assert mmd_kernel([[0.0], [1.0]], [[3.0]]) == pytest.approx(expected, rel=1e-12)


def test_images_by_hand() -> None:
    references = np.array([[[0.0, 0.0]], [[1.0, 1.0]], [[1.0, 0.0]]])
    samples = np.array([[[0.9, 0.0]], [[1.0, 0.2]], [[0.1, 0.0]]])
    # Nearest references of the samples: third, third, first; the second is nobody's.
    assert cov_l2(samples, references) == pytest.approx(100 * 2 / 3)
    # Nearest samples of the references: third 0.01, second 0.64, first 0.01.
    assert mmd_l2(samples, references) == pytest.approx((0.01 + 0.64 + 0.01) / 3)


def test_equal_references_are_covered_once() -> None:
    references = np.zeros((4, 9))
    references[3] = 1.0
    assert cov_l2(references, references) == 50.0


# Two independent sets of unit Gaussians; tolerance: five standard deviations over draws.
@pytest.mark.parametrize(
    ("metric", "dimension", "n", "expected", "tolerance"),
    [
        ("cd", 3, 3000, 0.088, 0.02),
        ("cd", 6, 3000, 1.40, 0.065),
        ("cd", 8, 3000, 3.18, 0.06),
        ("cd", 21, 3000, 25.3, 0.55),
        ("cd", 43, 3648, 78.1, 1.0),
        ("cd", 63, 3000, 135, 3.7),
        ("emd", 21, 3000, 3.77, 0.03),
        ("emd_3d_reading", 21, 3000, 0.228, 0.023),
        ("emd_3d_reading_approximate", 3, 1000, 0.396, 0.055),
    ],
)
def test_reference_figures(
    metric: str, dimension: int, n: int, expected: float, tolerance: float
) -> None:
    value = ROW_METRICS[metric](*gaussians(n, dimension))
    assert value == pytest.approx(expected, abs=tolerance)


def test_the_approximate_distance_is_about_a_quarter_above_the_exact_one() -> None:
    x, r = gaussians(1000, 8)
    ratio = emd_3d_reading_approximate(x, r) / emd_3d_reading(x, r)
    assert 1.15 < ratio < 1.35


@pytest.mark.parametrize("dimension", [2, sets.TREE_DIMENSIONS, sets.TREE_DIMENSIONS + 1, 30])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_nearest_neighbours_are_exact(dimension: int, offset: float) -> None:
    x, r = (rows + offset for rows in gaussians(300, dimension))
    squared = ((x[:, None] - r[None]) ** 2).sum(-1)
    index, least = nearest(x, r)
    np.testing.assert_array_equal(index, squared.argmin(axis=1))
    np.testing.assert_allclose(least, squared.min(axis=1), rtol=1e-12)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, r = gaussians(101, 12)
    whole = {name: metric(x, r) for name, metric in {**ROW_METRICS, **IMAGE_METRICS}.items()}
    monkeypatch.setattr(sets, "_BLOCK_NUMBERS", 1000)
    for name, metric in {**ROW_METRICS, **IMAGE_METRICS}.items():
        assert metric(x, r) == pytest.approx(whole[name], rel=1e-12)


_SETS = arrays(np.float64, (2, 8, 4), elements=st.floats(-3, 3, width=32))


@given(both=_SETS, seed=st.integers(0, 99), shift=st.floats(-5, 5), scale=st.floats(0.1, 4))
@settings(max_examples=40, deadline=None)
def test_invariances(both: Float, seed: int, shift: float, scale: float) -> None:
    x, r = both
    order = np.random.default_rng(seed).permutation(8)
    for name, power in (("cd", 2), ("emd", 1), ("emd_3d_reading", 1)):
        metric = ROW_METRICS[name]
        value = metric(x, r)
        assert value >= 0
        assert metric(x, x) == pytest.approx(0, abs=1e-12)
        assert metric(r, x) == pytest.approx(value, abs=1e-9)
        assert metric(x + shift, r + shift) == pytest.approx(value, abs=1e-6)
        assert metric(scale * x, scale * r) == pytest.approx(scale**power * value, abs=1e-6)
        if name != "emd_3d_reading":  # which reads the first rows only
            assert metric(x[order], r) == pytest.approx(value, abs=1e-9)


@given(both=_SETS, seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_kernel_discrepancy_is_a_squared_distance(both: Float, seed: int) -> None:
    x, r = both
    order = np.random.default_rng(seed).permutation(8)
    assert -1e-12 <= mmd_kernel(x, r) <= 2
    assert mmd_kernel(x, x[order]) == pytest.approx(0, abs=1e-12)
    assert mmd_kernel(x + 100, r + 100) == pytest.approx(mmd_kernel(x, r), abs=1e-9)


@given(both=_SETS)
@settings(max_examples=30, deadline=None)
def test_chamfer_never_exceeds_the_optimal_assignment_of_squares(both: Float) -> None:
    x, r = both
    # Any assignment bounds both directions of nearest neighbours.
    assert cd(x, r) <= 2 * ((x - r) ** 2).sum(axis=1).mean() + 1e-9


@pytest.mark.parametrize("name", [*ROW_METRICS, *IMAGE_METRICS])
def test_what_is_not_finite_is_refused(name: str) -> None:
    metric = {**ROW_METRICS, **IMAGE_METRICS}[name]
    x, r = gaussians(5, 4)
    x[2, 1] = np.nan
    with pytest.raises(MetricError, match="1 of 5 samples are not finite"):
        metric(x, r)
    with pytest.raises(ValueError, match="numbers"):
        metric(r, r[:, :2])


@pytest.mark.parametrize("metric", [emd, emd_3d_reading, emd_3d_reading_approximate])
def test_too_many_rows_are_refused_with_the_cost(metric: type) -> None:
    rows = np.zeros((20_001, 3))
    with pytest.raises(MetricError, match=r"20,001 rows would take .* GB and about .* minutes"):
        metric(rows, rows)


def test_memory_of_the_assignment_is_said() -> None:
    rows = np.zeros((30_000, 1))
    with pytest.raises(MetricError, match=r"7\.2 GB"):
        emd(rows, rows)


def test_3d_reading_needs_three_numbers_a_row() -> None:
    rows = np.zeros((4, 2))
    with pytest.raises(MetricError, match="at least 3 numbers"):
        emd_3d_reading(rows, rows)


def test_a_missing_library_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot.lp", None)
    rows = np.zeros((4, 3))
    with pytest.raises(MetricError, match=r"needs ot.*pip install 'cnf-harness\[metrics\]'"):
        emd_3d_reading(rows, rows)


def test_metrics_import_no_framework() -> None:
    program = (
        "import sys, numpy as np\n"
        "from harness.metrics.definitions import ROW_METRICS, IMAGE_METRICS\n"
        "assert not {'scipy', 'sklearn', 'ot'} & set(sys.modules)\n"
        "x = np.eye(9)\n"
        "[f(x, x + 1) for f in (*ROW_METRICS.values(), *IMAGE_METRICS.values())]\n"
        "assert 'ot' in sys.modules and not {'torch', 'jax', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_floor_is_that_of_another_subset_of_real_rows() -> None:
    train = Stream(1, "test/train").normal((4000, 6))
    references = reference_rows(Stream(1, "test/test").normal((2500, 6)), limit=1000)
    assert references.shape == (1000, 6)
    rows = floor_rows(train, 1000)
    assert len(np.unique(rows, axis=0)) == 1000
    assert cd(rows, references) == pytest.approx(cd(*gaussians(1000, 6)), rel=0.05)
    np.testing.assert_array_equal(rows, floor_rows(train, 1000))
    with pytest.raises(MetricError, match="999 and 1,000"):
        floor_rows(train[:999], 1000)


def test_references_are_distinct_rows_in_a_fixed_order() -> None:
    test = np.arange(50.0)[:, None]
    references = reference_rows(test, limit=30)
    assert len(np.unique(references)) == 30
    np.testing.assert_array_equal(references, reference_rows(test, limit=30))
    assert not np.array_equal(references, test[:30])


def test_every_sample_metric_is_defined() -> None:
    uses = ("recon", "prior", "floor")
    names = {*ROW_METRICS, *(f"{n}_{use}" for n in IMAGE_METRICS for use in uses)}
    names |= {*MINIMA.values(), *(f"{name}_floor" for name in ROW_METRICS)}
    assert names <= set(DEFINITIONS)


def test_rows_of_each_metric() -> None:
    wanted = SampleMetrics(rows=500, samplings=3, exact_emd_rows=100)
    assert planned_rows(wanted, 6, 1000) == {
        **dict.fromkeys(("cd", "emd_3d_reading_approximate", "mmd_kernel"), 500),
        **dict.fromkeys(("emd", "emd_3d_reading"), 100),
    }
    assert planned_rows(wanted, 2, 80) == dict.fromkeys(("cd", "emd", "mmd_kernel"), 80)
    none = SampleMetrics(exact_emd_rows=0)
    assert planned_rows(none, 2) == {"cd": PUBLISHED_ROWS, "mmd_kernel": PUBLISHED_ROWS}
    # What the distances refuse, a suite cannot ask for.
    with pytest.raises(ValueError, match="at most 20000"):
        TypeAdapter(SampleMetrics).validate_json(f'{{"rows": {MAX_ROWS + 1}}}')


def test_cost_of_the_protocol_is_that_of_its_metrics() -> None:
    wanted = SampleMetrics(rows=3000, samplings=4, exact_emd_rows=1000)
    spent = protocol_cost(wanted, 21)
    planned = planned_rows(wanted, 21)
    parts = [cost(name, rows, 21, samplings=5) for name, rows in planned.items()]
    assert spent.seconds == pytest.approx(sum(part.seconds for part in parts))
    assert spent.bytes >= max(part.bytes for part in parts)
    # Halving the rows of the exact distances saves more than half of their time.
    fewer = protocol_cost(SampleMetrics(3000, 4, 500), 21)
    assert fewer.seconds < spent.seconds
