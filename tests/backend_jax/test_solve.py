"""The production engine: counts, orders, control and failures, on equations known by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from harness_jax.solve import record, tape
from harness_jax.solve.backprop import solve_checkpoint, solve_direct
from harness_jax.solve.control import error_norm, next_step
from harness_jax.solve.counts import FAILURES
from harness_jax.solve.native_engine import solve
from harness_jax.solve.problem import InitialValue, NativeSolver, StateLeaves, Tree

from harness.solvers import ADAPTIVE_SOLVERS, FIXED_SOLVERS, TABLEAUX
from harness.trial import AdaptiveSolver, FixedSolver

FirstStep = Literal["heuristic", "whole"] | float
FIRST_STEPS: tuple[FirstStep, ...] = ("heuristic", "whole", 0.3)
LOOSE = AdaptiveSolver("dopri5", rtol=1e-3, atol=1e-3)
Leaves = list[npt.NDArray[np.float64]]


class Counted:
    """dz/ds = rate z, da/ds = sum z, with every call noted."""

    def __init__(self, rate: float = -1.0) -> None:
        self.rate = rate
        self.times: list[float] = []

    def __call__(self, s: Tree, z: Tree, inputs: Tree, fixed: Tree) -> Tree:
        jax.debug.callback(lambda s: self.times.append(float(s)), s)
        return self.rate * z, z.sum(axis=1)[None]


def state() -> Tree:
    return jnp.asarray([[1.0, 2.0], [3.0, -1.0]]), jnp.zeros((1, 2))


def constant(s: Tree, z: Tree, inputs: Tree, fixed: Tree) -> Tree:
    """Nothing moves."""
    return jnp.zeros_like(z), jnp.zeros((1, len(z)))


def run(
    field: Callable[..., Tree], solver: NativeSolver, h0: float | None = None
) -> tuple[Tree, Any]:
    first = None if h0 is None else jnp.asarray(h0)
    end, stats = jax.jit(lambda y: solve(InitialValue(field, y, None, None, h0=first), solver))(
        state()
    )
    jax.effects_barrier()  # type: ignore[no-untyped-call]
    return end, SimpleNamespace(
        **{k: v.item() for k, v in jax.device_get(stats)._asdict().items()}
    )


@pytest.mark.parametrize("first", FIRST_STEPS)
@pytest.mark.parametrize("name", ADAPTIVE_SOLVERS)
def test_adaptive_counts_are_calls(name: str, first: FirstStep) -> None:
    for rate in (-1.0, -80.0):
        field = Counted(rate)
        spec = AdaptiveSolver(name, rtol=1e-4, atol=1e-4, first_step=first)
        _, stats = run(field, spec)
        attempted = int(stats.accepted + stats.rejected)
        expected = TABLEAUX[name].evaluations(attempted, heuristic=first == "heuristic")
        assert stats.evaluations == len(field.times) == expected
        assert max(field.times) == 1.0
    if first == "whole":
        assert stats.rejected > 0


def test_a_given_first_step_costs_no_evaluation() -> None:
    field = Counted()
    _, stats = run(field, LOOSE, h0=0.25)
    assert stats.first_step == 0.25
    assert stats.evaluations == len(field.times) == 1 + 6 * (stats.accepted + stats.rejected)


def test_a_first_step_of_zero_leaves_it_to_the_rule() -> None:
    field = Counted()
    by_rule, given = run(field, LOOSE)[1], run(field, LOOSE, h0=0.0)[1]
    assert by_rule == given
    assert given.evaluations == 2 + 6 * (given.accepted + given.rejected)


def test_the_largest_and_the_last_proposed_step() -> None:
    """A constant z from h = 1e-6 on: after 6 steps s = 0.111111; the seventh is proposed as 1 and
    cut to land.
    """
    _, stats = run(constant, LOOSE)
    assert stats.proposed == pytest.approx(1)
    assert stats.largest == pytest.approx(1 - 0.111111)
    _, stats = run(Counted(), FixedSolver("euler", 4))
    assert (stats.proposed, stats.largest) == (0.25, 0.25)


@pytest.mark.parametrize("name", FIXED_SOLVERS)
def test_fixed_counts_are_calls(name: str) -> None:
    field = Counted()
    _, stats = run(field, FixedSolver(name, steps=3))
    assert stats.evaluations == len(field.times) == 3 * TABLEAUX[name].stages
    assert (stats.accepted, stats.rejected) == (3, 0)


def test_a_solve_counted_by_hand() -> None:
    """For z' = 0 the heuristic finds h0 = 1e-6, h1 = 1e-6, so h = 1e-6; every error is zero, so
    steps grow tenfold: 1e-6, 1e-5, ..., 0.1 make 0.111111, and one more lands on 1: 7 steps.
    dopri5 takes 1 + 1 + 6 x 7 evaluations.
    """
    _, stats = run(constant, LOOSE)
    assert stats.first_step == pytest.approx(1e-6)
    assert (stats.accepted, stats.rejected) == (7, 0)
    assert stats.evaluations == 44


@pytest.mark.parametrize("name", FIXED_SOLVERS)
def test_order_of_convergence(name: str) -> None:
    """Halving the step divides the error of z' = 4 z (1 - z) by 2^order."""

    def field(s: Tree, z: Tree, inputs: Tree, fixed: Tree) -> Tree:
        return 4 * z * (1 - z), z.sum(axis=1)[None]

    exact = 1 / (1 + 9 * math.exp(-4))
    errors = []
    for steps in (16, 32):
        start = (jnp.asarray([[0.1]]), jnp.zeros((1, 1)))
        problem = InitialValue(field, start, None, None)
        (z, _), _ = jax.jit(partial(solve, problem, FixedSolver(name, steps)))()
        errors.append(abs(float(z[0, 0]) - exact))
    order = math.log2(errors[0] / errors[1])
    assert -0.4 < order - TABLEAUX[name].order < 0.4


def _reference(solver: AdaptiveSolver) -> tuple[int, int]:
    """Accepted and rejected steps of z' = 5 sin(4 z), a' = sum z by the rules of docs/numerics.md,
    in plain numpy.
    """
    tableau = TABLEAUX[solver.name]

    def field(y: Leaves) -> Leaves:
        return [5 * np.sin(4 * y[0]), y[0].sum(axis=1)]

    def norm(error: Leaves, *states: Leaves) -> float:
        sizes = [np.max(np.abs(leaves), axis=0) for leaves in zip(*states, strict=True)]
        ratios = [e / (solver.atol + solver.rtol * s) for e, s in zip(error, sizes, strict=True)]
        return float(max(np.sqrt(np.mean(r**2)) for r in ratios))

    def add(y: Leaves, h: float, weights: Sequence[float], ks: Sequence[Leaves]) -> Leaves:
        pairs = list(zip(weights, ks, strict=False))
        return [leaf + h * sum(w * k[i] for w, k in pairs) for i, leaf in enumerate(y)]

    y = [np.asarray(leaf) for leaf in (state()[0], state()[1][0])]
    h = 1.0
    if solver.first_step == "heuristic":
        f0 = field(y)
        d0, d1 = norm(y, y), norm(f0, y)
        h = 1e-6 if min(d0, d1) < 1e-5 else 0.01 * d0 / d1
        f1 = field(add(y, h, [1.0], [f0]))
        d2 = norm([b - a for a, b in zip(f0, f1, strict=True)], y) / h
        h = min(100 * h, (0.01 / max(d1, d2)) ** (1 / tableau.order), 1.0)
    s, accepted, rejected = 0.0, 0, 0
    while s < 1 and accepted + rejected < 500:
        h = min(h, 1 - s)
        ks: list[Leaves] = []
        for row in tableau.a:
            ks.append(field(add(y, h, row, ks)))
        new = add(y, h, tableau.b, ks)
        error = add([0 * leaf for leaf in y], h, tableau.error or (), ks)
        ratio = norm(error, y, new)
        if ratio <= 1:
            s, y, accepted = (1.0 if h == 1 - s else s + h), new, accepted + 1
        else:
            rejected += 1
        h *= min(10, max(0.9 * ratio ** (-1 / tableau.order), 1 if ratio <= 1 else 0.2))
    return accepted, rejected


@pytest.mark.parametrize("first", ["heuristic", "whole"])
@pytest.mark.parametrize("name", ADAPTIVE_SOLVERS)
def test_steps_are_those_of_the_written_rules(
    name: str, first: Literal["heuristic", "whole"]
) -> None:
    solver = AdaptiveSolver(name, rtol=1e-5, atol=1e-6, first_step=first)

    def field(s: Tree, z: Tree, inputs: Tree, fixed: Tree) -> Tree:
        return 5 * jnp.sin(4 * z), z.sum(axis=1)[None]

    stats = run(field, solver)[1]
    assert (int(stats.accepted), int(stats.rejected)) == _reference(solver)
    if first == "whole":
        assert stats.rejected > 0


def test_mixed_norm_is_the_larger_leaf_and_rms_all_one_mean() -> None:
    y = (jnp.full((2, 3), 2.0), jnp.asarray([[5.0, 5.0], [1e9, 1e9]]))
    assert error_norm("mixed", StateLeaves())(y) == pytest.approx(5.0)
    expected = math.sqrt((6 * 4 + 2 * 25) / 8)
    assert error_norm("rms_all", StateLeaves())(y) == pytest.approx(expected)
    assert jnp.isnan(error_norm("mixed", StateLeaves())((y[0], y[1] * math.nan)))


@pytest.mark.parametrize(
    ("ratio", "factor"),
    [(0.0, 10), (1e-9, 10), (0.9**5 / 32, 2), (0.9, 1), (1.0, 1), (32.0, 0.45), (1e6, 0.2),
     (math.inf, 0.2)],
)  # fmt: skip
def test_controller_by_hand(ratio: float, factor: float) -> None:
    found = next_step(jnp.asarray(0.1), jnp.asarray(ratio), TABLEAUX["dopri5"])
    assert float(found) == pytest.approx(0.1 * factor, rel=1e-12)


def test_failures_are_data() -> None:
    def failure(field: Callable[..., Tree], solver: NativeSolver) -> str | None:
        return FAILURES[int(run(field, solver)[1].failure)]

    assert failure(Counted(-80.0), replace(LOOSE, max_steps=3)) == "max_steps"
    assert failure(Counted(math.nan), LOOSE) == "non-finite"
    assert failure(Counted(math.nan), replace(LOOSE, first_step="whole")) == "non-finite"
    assert failure(Counted(math.nan), FixedSolver("euler", 2)) == "non-finite"

    def bursts(s: Tree, z: Tree, inputs: Tree, fixed: Tree) -> Tree:
        """Grows without bound towards s = 1/2: no step size is small enough."""
        return jnp.full_like(z, 1) / (0.5 - s) ** 3, z.sum(axis=1)[None]

    assert failure(bursts, replace(LOOSE, max_steps=2_000)) == "underflow"

    def infinite(s: Tree, z: Tree, inputs: Tree, fixed: Tree) -> Tree:
        return z * jnp.where(s > 0.5, jnp.inf, 1.0), z.sum(axis=1)[None]

    assert failure(infinite, LOOSE) == "non-finite"


def test_an_unfinished_solve_counts_what_it_did() -> None:
    field = Counted(-80.0)
    _, stats = run(field, replace(LOOSE, max_steps=3))
    assert stats.accepted + stats.rejected == 3
    assert stats.evaluations == len(field.times)


@pytest.mark.parametrize(
    "solver",
    [
        FixedSolver("rk4_38", 37),
        AdaptiveSolver("dopri5", 1e-8, 1e-8),
        AdaptiveSolver("dopri5", 1e-8, 1e-8, end="interpolate"),
    ],
)
def test_gradient_does_not_depend_on_what_is_kept(
    solver: NativeSolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 4 slots for some 40 steps most are taken again; with little room, the later ones."""

    def field(s: Tree, z: Tree, inputs: Tree, fixed: Tree) -> Tree:
        return jnp.sin(inputs * z + 20 * s), jnp.cos(z).sum(axis=1)[None]

    def gradient(solve: Callable[..., Any]) -> tuple[list[jax.Array], Any]:
        def loss(y: Tree, inputs: Tree) -> tuple[jax.Array, Any]:
            (z, q), stats = solve(InitialValue(field, y, inputs, None), solver)
            return jnp.sum(z**2) + jnp.sum(q), stats

        found, stats = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(
            state(), jnp.asarray(7.0)
        )
        return jax.tree.leaves(found), jax.device_get(stats)

    expected, stats = gradient(solve_checkpoint)
    needed = TABLEAUX[solver.name].evaluations_per_step
    assert 16 < stats.accepted < 64
    # The last stage of a step that passes the end has a weight there.
    passes = isinstance(solver, AdaptiveSolver) and solver.end == "interpolate"
    assert stats.vjp == stats.recompute == needed * stats.accepted + passes
    kept, of_kept = gradient(solve_direct)
    assert (of_kept.vjp, of_kept.recompute) == (stats.vjp, 0)
    monkeypatch.setattr(record, "SLOTS", 4)
    thinned, of_thinned = gradient(solve_checkpoint)
    assert of_thinned.recompute > 2 * stats.recompute
    monkeypatch.setitem(tape.BYTES, "cpu", 2000)
    full, of_full = gradient(solve_direct)
    assert 0 < of_full.recompute < of_thinned.recompute
    for found in (kept, thinned, full):
        for leaf, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(leaf, right, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("entries", "slots"), [(10, 64), (2**16 // 8, 64), (2**18 // 8, 18), (2**23 // 8, 8)]
)
def test_the_record_of_large_states_keeps_fewer(entries: int, slots: int) -> None:
    tableau = TABLEAUX["dopri5"]
    kept = jax.eval_shape(
        lambda: record.empty_record(jnp.zeros(entries), tableau, 1000, slopes=True)
    ).kept
    assert kept[0].shape == (slots + 1, entries)
    assert kept[1].shape == (slots + 1, 6, entries)
