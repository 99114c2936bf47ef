"""The Butcher tableaux satisfy the order conditions of rooted trees (Butcher 1963; Hairer,
Norsett & Wanner, Solving Ordinary Differential Equations I, II.2).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from harness.backends import get_backend
from harness.solvers import (
    ADAPTIVE_SOLVERS,
    FIXED_SOLVERS,
    LIBRARY_SOLVERS,
    TABLEAUX,
    Tableau,
)
from harness.trial import DatasetRef, LibrarySolver, Trial

Float = npt.NDArray[np.float64]
# A rooted tree is the sorted tuple of the subtrees at its root; the single node is ().
Tree = tuple["Tree", ...]

every_tableau = pytest.mark.parametrize("tableau", TABLEAUX.values(), ids=list(TABLEAUX))
every_pair = pytest.mark.parametrize(
    "tableau", [TABLEAUX[name] for name in ADAPTIVE_SOLVERS], ids=list(ADAPTIVE_SOLVERS)
)
# tsit5 is known to 16 decimal digits only, with coefficients up to 13.
TOLERANCE = 1e-13


@functools.cache
def trees(nodes: int) -> tuple[Tree, ...]:
    """All rooted trees with so many nodes."""
    return tuple({tuple(sorted(branches)) for branches in _forests(nodes - 1)})


@functools.cache
def _forests(nodes: int) -> tuple[tuple[Tree, ...], ...]:
    if nodes == 0:
        return ((),)
    return tuple(
        (first, *rest)
        for size in range(1, nodes + 1)
        for first in trees(size)
        for rest in _forests(nodes - size)
    )


def size(tree: Tree) -> int:
    return 1 + sum(size(branch) for branch in tree)


def density(tree: Tree) -> int:
    return size(tree) * math.prod(density(branch) for branch in tree)


def weights(tree: Tree, a: Float) -> Float:
    """Elementary weight of the tree at each stage."""
    value = np.ones(len(a))
    for branch in tree:
        value = value * (a @ weights(branch, a))
    return value


def matrix(tableau: Tableau) -> Float:
    a = np.zeros((tableau.stages, tableau.stages))
    for i, row in enumerate(tableau.a):
        a[i, : len(row)] = row
    return a


def residual(b: Sequence[float] | Float, a: Float, order: int) -> float:
    """Largest violation of the conditions of exactly this order."""
    return max(
        abs(float(np.dot(b, weights(tree, a))) - 1 / density(tree)) for tree in trees(order)
    )


def test_number_of_rooted_trees() -> None:
    assert [len(trees(n)) for n in range(1, 8)] == [1, 1, 2, 4, 9, 20, 48]


@every_tableau
def test_order_is_exactly_the_stated_one(tableau: Tableau) -> None:
    a = matrix(tableau)
    for order in range(1, tableau.order + 1):
        assert residual(tableau.b, a, order) < TOLERANCE
    assert residual(tableau.b, a, tableau.order + 1) > 1e-6


@every_pair
def test_embedded_solution_is_one_order_lower(tableau: Tableau) -> None:
    assert tableau.error is not None
    a, embedded = matrix(tableau), np.subtract(tableau.b, tableau.error)
    for order in range(1, tableau.order):
        assert residual(embedded, a, order) < TOLERANCE
    assert residual(embedded, a, tableau.order) > 1e-6


@every_tableau
def test_shape_and_nodes(tableau: Tableau) -> None:
    assert [len(row) for row in tableau.a] == list(range(tableau.stages))
    assert len(tableau.c) == tableau.stages
    np.testing.assert_allclose([sum(row) for row in tableau.a], tableau.c, rtol=0, atol=TOLERANCE)


@every_pair
def test_error_weights_sum_to_zero(tableau: Tableau) -> None:
    assert tableau.error is not None
    assert len(tableau.error) == tableau.stages
    assert abs(sum(tableau.error)) < TOLERANCE


@every_pair
def test_the_state_halfway_is_consistent(tableau: Tableau) -> None:
    """Of order 4 in dopri5 and dopri8, as their interpolation is. It needs no integral of a stage
    for whose rate there is no other use.
    """
    if tableau.middle is None:
        assert tableau.name == "tsit5"
        return
    assert len(tableau.middle) == tableau.stages
    assert sum(tableau.middle) == pytest.approx(1 / 2, abs=1e-12)
    for order in (2, 3, 4) if tableau.name != "bosh3" else ():
        for tree in trees(order):
            found = np.dot(tableau.middle, weights(tree, matrix(tableau)))
            assert found == pytest.approx(0.5**order / density(tree), abs=1e-9)
    used = {i for i, weight in enumerate(tableau.middle) if weight}
    assert used <= {i for i, integrated in enumerate(tableau.integrated) if integrated}


def test_kinds_and_fsal() -> None:
    assert FIXED_SOLVERS == ("euler", "heun2", "midpoint", "rk4_38", "rk4_classic")
    assert ADAPTIVE_SOLVERS == ("bosh3", "dopri5", "dopri8", "tsit5")
    assert {name for name, tableau in TABLEAUX.items() if tableau.fsal} == set(ADAPTIVE_SOLVERS)


def test_dopri8_has_the_numbers_of_both_libraries() -> None:
    """Printed by torchdiffeq 0.2.5 and diffrax 0.7.2, which agree in every coefficient."""
    dopri8 = TABLEAUX["dopri8"]
    assert dopri8.c[8] == 0.5648654513822595
    assert dopri8.b[8] == -0.7597596138144609
    assert dopri8.error is not None
    assert dopri8.error[5] == 0.7731539478765578
    assert dopri8.a[9][6] == 2.8478387641928005
    assert dopri8.a[12][11] == 0.0


@pytest.mark.parametrize(
    ("name", "steps", "heuristic", "expected"),
    [
        ("euler", 3, False, 3),
        ("midpoint", 3, False, 6),
        ("heun2", 3, False, 6),
        ("rk4_38", 8, False, 32),
        ("rk4_classic", 1, False, 4),
        ("bosh3", 5, False, 16),
        ("bosh3", 5, True, 17),
        ("dopri5", 10, False, 61),
        ("dopri5", 10, True, 62),
        ("tsit5", 1, True, 8),
        ("dopri8", 2, True, 28),
    ],
)
def test_evaluations_by_hand(name: str, steps: int, heuristic: bool, expected: int) -> None:
    assert TABLEAUX[name].evaluations(steps, heuristic) == expected


def _integrate(
    tableau: Tableau, f: Callable[[float, Float], Float], steps: int, y: Float
) -> Float:
    """Fixed steps over [0, 1] from y, reusing the last stage where the method allows it."""
    h = 1 / steps
    reused: Float | None = None
    for step in range(steps):
        stages: list[Float] = []
        for row, node in zip(tableau.a, tableau.c, strict=True):
            if reused is not None and not stages:
                stages.append(reused)
                continue
            increment = sum((w * k for w, k in zip(row, stages, strict=True)), 0 * y)
            stages.append(f((step + node) * h, y + h * increment))
        y = y + h * sum((w * k for w, k in zip(tableau.b, stages, strict=True)), 0 * y)
        reused = stages[-1] if tableau.fsal else None
    return y


@every_tableau
def test_counted_evaluations_and_convergence(tableau: Tableau) -> None:
    """For the problem y' = y cos(s), y(0) = 1, whose solution is exp(sin s)."""
    calls = 0

    def f(s: float, y: Float) -> Float:
        nonlocal calls
        calls += 1
        return y * math.cos(s)

    errors = []
    # An error of order 8 at 16 steps is rounding.
    for steps in (4, 8) if tableau.order > 5 else (8, 16):
        calls = 0
        errors.append(
            abs(float(_integrate(tableau, f, steps, np.ones(1))[0]) - math.exp(math.sin(1.0)))
        )
        assert calls == tableau.evaluations(steps, heuristic=False)
    assert math.log2(errors[0] / errors[1]) == pytest.approx(tableau.order, abs=0.5)


@every_tableau
def test_an_integral_needs_the_rates_of_its_stages_alone(tableau: Tableau) -> None:
    steps, first = 4, 1 if tableau.fsal else 0
    order = [*range(tableau.stages), *[*range(first, tableau.stages)] * (steps - 1)]

    def end(elsewhere: float) -> Float:
        stages = iter(order)

        def f(s: float, y: Float) -> Float:
            rate = y[0] ** 2 if tableau.integrated[next(stages)] else elsewhere
            return np.array([y[0] * math.cos(s), rate])

        return _integrate(tableau, f, steps, np.array([1.0, 0.0]))

    np.testing.assert_array_equal(end(0.0), end(1e3))
    # And none of those could be left out.
    assert sum(tableau.integrated) == {"midpoint": 1, "dopri5": 6, "dopri8": 10}.get(
        tableau.name, tableau.stages
    )


@pytest.mark.parametrize(("library", "backend"), [("torchdiffeq", "torch"), ("diffrax", "jax")])
def test_the_backend_of_a_library_has_the_solvers_that_suites_accept(
    library: str, backend: str
) -> None:
    def reason(name: str) -> str | None:
        solver = LibrarySolver(f"{library}:{name}")
        refused = get_backend(backend).supports(Trial(DatasetRef("moons", ""), backend, solver))
        return refused.reason if refused else None

    assert f"it has {', '.join(sorted(LIBRARY_SOLVERS[library]))}" in str(reason("none"))
    for name in LIBRARY_SOLVERS[library]:
        assert "has no solver" not in str(reason(name))
