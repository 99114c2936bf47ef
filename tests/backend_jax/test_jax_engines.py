"""The production engine against diffrax: step for step, gradient for gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness_jax.control import FAILURES, Inputs, Tree, state_leaves
from harness_jax.field import Density
from harness_jax.gradients import EngineName, get_engine

from harness.solvers import TABLEAUX
from harness.stages import Block, Shape
from harness.streams import Stream
from harness.trial import AdaptiveSolver, FixedSolver, ModelSpec, SolverSpec

DIM = 3
ENGINES: tuple[EngineName, ...] = ("native", "diffrax")
MakeArrays = Callable[[ModelSpec, Shape], tuple[Block, dict[str, jax.Array]]]
Problem = tuple[Callable[..., Tree], Tree, dict[str, jax.Array]]


@pytest.fixture
def problem(block_arrays: MakeArrays) -> Problem:
    """A flow with a long end time: rejections occur."""
    x = jnp.asarray(Stream(3, "x").normal((8, DIM)))
    model = ModelSpec("concatsquash", (16, 16), "tanh")
    block, arrays = block_arrays(model, (DIM,))
    others = Inputs(
        None,
        jnp.asarray(9.0),
        jnp.asarray(Stream(3, "eps").normal((8, DIM))),
        jnp.asarray(0.0),
        jnp.asarray(1.0),
    )

    def rates(s: Tree, y: Tree, inputs: Tree, fixed: Tree) -> Tree:
        return Density(model, block, "hutchinson")(others._replace(arrays=inputs), s, y[0])

    return rates, (x, jnp.zeros((1, 8))), arrays


def _spec(
    name: str, norm: Literal["mixed", "rms_all"], first: Literal["heuristic", "whole"]
) -> SolverSpec:
    if TABLEAUX[name].error is None:
        return FixedSolver(name, 4)
    return AdaptiveSolver(name, rtol=1e-4, atol=1e-4, norm=norm, first_step=first)


def _solve(engine: EngineName, problem: Problem, spec: SolverSpec) -> tuple[Tree, Any]:
    field, y0, inputs = problem
    end, stats = jax.jit(
        lambda y0, inputs: get_engine(engine).solve(field, y0, inputs, None, spec, state_leaves)
    )(y0, inputs)
    return end, jax.device_get(stats)


def _agree(problem: Problem, spec: SolverSpec) -> int:
    (ours, stats), (theirs, others) = (_solve(engine, problem, spec) for engine in ENGINES)
    for quantity in ("evaluations", "accepted", "rejected", "failure"):
        assert getattr(stats, quantity) == getattr(others, quantity), quantity
    for size in ("first_step", "proposed", "largest"):
        assert getattr(stats, size) == pytest.approx(getattr(others, size), rel=1e-7), size
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-11, atol=1e-11)
    return int(stats.rejected)


@pytest.mark.parametrize("name", TABLEAUX)
def test_engines_agree_on_every_tableau(name: str, problem: Problem) -> None:
    _agree(problem, _spec(name, "mixed", "heuristic"))


def test_engines_agree_on_norm_and_first_step(problem: Problem) -> None:
    assert _agree(problem, _spec("dopri5", "rms_all", "whole")) > 0
    assert _agree(problem, _spec("dopri5", "mixed", "whole")) > 0


@pytest.mark.parametrize("name", ["dopri5", "rk4_38"])
def test_engines_agree_on_the_direct_gradient(name: str, problem: Problem) -> None:
    field, y0, inputs = problem
    spec = _spec(name, "mixed", "heuristic")

    def loss(y0: Tree, inputs: Tree, engine: EngineName) -> jax.Array:
        solve = get_engine(engine).solve_direct
        (z, a), _ = solve(field, y0, inputs, None, spec, state_leaves)
        return jnp.sum(z**2) + jnp.sum(jnp.sin(a))

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)
    ours, theirs = (gradient(y0, inputs, engine) for engine in ENGINES)
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_report_failures_alike(engine: EngineName, problem: Problem) -> None:
    field, (x, a), inputs = problem
    few = AdaptiveSolver("dopri5", rtol=1e-6, atol=1e-6, max_steps=2)
    found = [
        _solve(engine, problem, few)[1],
        _solve(engine, (field, (x * jnp.nan, a), inputs), AdaptiveSolver("dopri5"))[1],
        _solve(engine, (field, (x * jnp.nan, a), inputs), FixedSolver("euler", 2))[1],
    ]
    reasons = [FAILURES[int(stats.failure)] for stats in found]
    assert reasons == ["max_steps", "non-finite", "non-finite"]
