"""The production engine against diffrax: step for step, gradient for gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness_jax.field import Augmented
from harness_jax.solve.counts import FAILURES
from harness_jax.solve.engines import get_engine
from harness_jax.solve.problem import InitialValue, Inputs, Tree

from harness.architecture.transforms import Block, Shape
from harness.solvers import TABLEAUX
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    EngineName,
    FixedSolver,
    LibrarySolver,
    ModelSpec,
    SolverSpec,
)

DIM = 3
ENGINES: tuple[EngineName, ...] = ("native", "library")
MakeArrays = Callable[[ModelSpec, Shape], tuple[Block, dict[str, jax.Array]]]


@pytest.fixture
def problem(block_arrays: MakeArrays) -> InitialValue:
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

    def rates(s: Tree, z: Tree, inputs: Tree, fixed: Tree) -> Tree:
        return Augmented(model, block, "hutchinson")(others._replace(arrays=inputs), s, z)

    return InitialValue(rates, (x, jnp.zeros((1, 8))), arrays, None)


def _spec(
    name: str, norm: Literal["mixed", "rms_all"], first: Literal["heuristic", "whole"]
) -> SolverSpec:
    if TABLEAUX[name].error is None:
        return FixedSolver(name, 4)
    return AdaptiveSolver(name, rtol=1e-4, atol=1e-4, norm=norm, first_step=first)


def _solve(engine: EngineName, problem: InitialValue, spec: SolverSpec) -> tuple[Tree, Any]:
    def solve(y0: Tree, inputs: Tree) -> tuple[Tree, Any]:
        return get_engine(engine).solve(problem._replace(y0=y0, inputs=inputs), spec)

    end, stats = jax.jit(solve)(problem.y0, problem.inputs)
    return end, jax.device_get(stats)


def _agree(problem: InitialValue, spec: SolverSpec) -> int:
    (ours, stats), (theirs, others) = (_solve(engine, problem, spec) for engine in ENGINES)
    for quantity in ("evaluations", "accepted", "rejected", "failure"):
        assert getattr(stats, quantity) == getattr(others, quantity), quantity
    for size in ("first_step", "proposed", "largest"):
        assert getattr(stats, size) == pytest.approx(getattr(others, size), rel=1e-7), size
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-11, atol=1e-11)
    return int(stats.rejected)


@pytest.mark.parametrize("name", TABLEAUX)
def test_engines_agree_on_every_tableau(name: str, problem: InitialValue) -> None:
    _agree(problem, _spec(name, "mixed", "heuristic"))


def test_engines_agree_on_norm_and_first_step(problem: InitialValue) -> None:
    assert _agree(problem, _spec("dopri5", "rms_all", "whole")) > 0
    assert _agree(problem, _spec("dopri5", "mixed", "whole")) > 0


@pytest.mark.parametrize("name", ["dopri5", "rk4_38"])
def test_engines_agree_on_the_gradient_of_the_steps(name: str, problem: InitialValue) -> None:
    """In every mode, and on the counts of what is differentiated."""
    spec = _spec(name, "mixed", "whole")

    def gradient(engine: EngineName, mode: Literal["checkpoint", "direct"]) -> tuple[Any, Any]:
        solve = getattr(get_engine(engine), f"solve_{mode}")

        def loss(y0: Tree, inputs: Tree) -> tuple[jax.Array, Any]:
            (z, q), stats = solve(problem._replace(y0=y0, inputs=inputs), spec)
            return jnp.sum(z**2) + jnp.sum(jnp.sin(q)), stats

        found, stats = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(
            problem.y0, problem.inputs
        )
        return jax.tree.leaves(found), jax.device_get(stats)

    expected, stats = gradient("native", "checkpoint")
    needed = TABLEAUX[name].evaluations_per_step
    assert stats.vjp == stats.recompute == needed * stats.accepted
    others = [gradient("native", "direct"), gradient("library", "checkpoint")]
    if name == "rk4_38":  # minutes to compile for more steps
        others.append(gradient("library", "direct"))
    for found, of_found in others:
        assert of_found.accepted == stats.accepted
        for mine, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("spec", "stages", "start"),
    [
        (LibrarySolver("diffrax:Ralston", rtol=1e-4, atol=1e-4), 2, 2),
        (LibrarySolver("diffrax:Tsit5", rtol=1e-8, atol=1e-8), 6, 3),
        (LibrarySolver("diffrax:Kvaerno5", rtol=1e-7, atol=1e-7), 6, 3),
        (LibrarySolver("diffrax:Heun", steps=500), 2, 0),
        (LibrarySolver("diffrax:Euler", steps=20_000), 1, 0),
    ],
)
def test_solvers_of_diffrax_by_name(
    spec: LibrarySolver, stages: int, start: int, problem: InitialValue
) -> None:
    tight = AdaptiveSolver("dopri5", rtol=1e-10, atol=1e-10)
    expected, _ = _solve("native", problem, tight)
    found, stats = _solve("library", problem, spec)
    assert stats.evaluations == stages * (stats.accepted + stats.rejected) + start
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-2, atol=2e-3)


def test_an_implicit_iteration_that_diverges_is_a_failure(problem: InitialValue) -> None:
    """At fixed steps diffrax cannot shorten the step, and leaves a finite value behind."""
    rough = problem._replace(inputs=jax.tree.map(lambda leaf: 40 * leaf, problem.inputs))
    spec = LibrarySolver("diffrax:ImplicitEuler", rtol=1e-12, atol=1e-12, steps=1)
    _, stats = _solve("library", rough, spec)
    assert FAILURES[int(stats.failure)] == "not converged"


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_report_failures_alike(engine: EngineName, problem: InitialValue) -> None:
    x, a = problem.y0
    lost = problem._replace(y0=(x * jnp.nan, a))
    few = AdaptiveSolver("dopri5", rtol=1e-6, atol=1e-6, max_steps=2)
    found = [
        _solve(engine, problem, few)[1],
        _solve(engine, lost, AdaptiveSolver("dopri5"))[1],
        _solve(engine, lost, FixedSolver("euler", 2))[1],
    ]
    reasons = [FAILURES[int(stats.failure)] for stats in found]
    assert reasons == ["max_steps", "non-finite", "non-finite"]
