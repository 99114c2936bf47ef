"""Regularizers by hand: a linear field, whose path and integrals are known in closed form."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest
from harness_jax.control import Tree, state_leaves
from harness_jax.dynamics import Augmented, Dynamics
from harness_jax.regularizers import INTEGRANDS
from harness_jax.solve import solve

from harness.trial import AdaptiveSolver, RegularizerName, TraceName

SOLVER = AdaptiveSolver("dopri5", rtol=1e-10, atol=1e-10)


def _linear(rates: tuple[float, ...]) -> Dynamics:
    """f(t, z) = diag(rates) z, as a net of one layer."""
    dim = len(rates)
    weight = jnp.concatenate([jnp.zeros((dim, 1)), jnp.diag(jnp.asarray(rates))], axis=1)
    arrays = {"layer0/weight": weight, "layer0/bias": jnp.zeros(dim)}
    return Dynamics("concat", "identity", arrays)


def test_integrands_at_a_point() -> None:
    f = jnp.asarray([[3.0, 4.0], [1.0, 0.0]])
    cotangent = jnp.asarray([[1.0, 2.0], [0.0, 3.0]])
    assert INTEGRANDS["rnode.kinetic"](f, None).tolist() == [(9 + 16) / 4, 1 / 4]
    assert INTEGRANDS["rnode.jacobian"](f, cotangent).tolist() == [(1 + 4) / 2, 9 / 2]


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_integrals_along_a_linear_flow(trace: TraceName) -> None:
    """Z' = diag(a, b) z over [0, T]: z_d(t) = z_d e^{a_d t}, so the kinetic integral is
    1/4 sum_d a_d z_d^2 (e^{2 a_d T} - 1) / 2, and (eps^T A)_d = a_d eps_d is constant.
    """
    rates, T = (0.5, -1.5), 0.8
    z = np.array([[1.0, 2.0], [-0.5, 0.3]])
    eps = np.array([[1.0, -1.0], [0.5, 2.0]])
    names: tuple[RegularizerName, ...] = ("rnode.jacobian", "rnode.kinetic")
    augmented = Augmented(trace, names, jnp.asarray(eps))

    def field(s: Tree, y: Tree, inputs: Tree, fixed: Tree) -> Tree:
        return augmented.rates(_linear(rates), jnp.asarray(T), s, y[0])

    start = (jnp.asarray(z), *(jnp.zeros(2) for _ in range(3)))
    (z1, a, jacobian, kinetic), _ = solve(field, start, None, None, SOLVER, state_leaves)

    a_d = np.array(rates)
    np.testing.assert_allclose(z1, z * np.exp(a_d * T), rtol=1e-9)
    trace_estimate = np.sum(a_d * (1.0 if trace == "exact" else eps**2) * np.ones((2, 2)), axis=1)
    np.testing.assert_allclose(a, -T * trace_estimate, rtol=1e-9)
    np.testing.assert_allclose(jacobian, T * np.sum((a_d * eps) ** 2, axis=1) / 2, rtol=1e-8)
    expected = np.sum(a_d * z**2 * np.expm1(2 * a_d * T), axis=1) / 8
    np.testing.assert_allclose(kinetic, expected, rtol=1e-8)


def test_regularizers_stay_out_of_the_step_size_control() -> None:
    """A further integral that oscillates fast changes no step."""

    def field(s: Tree, y: Tree, inputs: Tree, size: Tree) -> Tree:
        return -y[0], -y[0].sum(axis=1), size * jnp.sin(1e3 * s) * jnp.ones(3)

    steps = []
    for size in (0.0, 1e3):
        start = (jnp.ones((3, 2)), jnp.zeros(3), jnp.zeros(3))
        (_, _, r), stats = solve(field, start, None, size, SOLVER, state_leaves)
        steps.append((int(stats.accepted), int(stats.rejected)))
    assert steps[0] == steps[1]
    assert float(jnp.abs(r).max()) > 1, "the integral was not carried"
    assert math.isfinite(float(r[0]))
