"""Integrands against independent float64 computations, and by hand for a linear field."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness_jax.field import Augmented
from harness_jax.net.derivatives import Derivatives
from harness_jax.net.net import Net
from harness_jax.regularizers import INTEGRANDS
from harness_jax.solve.problem import Inputs

from harness.architecture.transforms import Block, Shape
from harness.streams.stream import Stream
from harness.trial import LayerName, ModelSpec, NonlinearityName, RegularizerName

T = 0.3
BlockArrays = Callable[[ModelSpec, Shape], tuple[Block, dict[str, jax.Array]]]
NETS: dict[str, tuple[ModelSpec, Shape]] = {
    "linear": (ModelSpec("concatsquash", (6, 5), "softplus"), (4,)),
    "residual": (ModelSpec("concat", (5,), "tanh", residual=True), (4,)),
    "image": (ModelSpec("concat", (3, 3), "swish", strides=(2, 1, -2)), (1, 4, 2)),
}


def _normal(name: str, *shape: int) -> jax.Array:
    return jnp.asarray(Stream(1, name).normal(shape))


def _along(value: Callable[..., jax.Array], order: int) -> Callable[..., jax.Array]:
    """d^order z / dt^order of one example as nested derivatives by t and z."""
    rate = value
    for _ in range(order - 1):

        def next_rate(t: jax.Array, z: jax.Array, g: Callable[..., jax.Array] = rate) -> jax.Array:
            derivative: jax.Array = jax.jvp(g, (t, z), (jnp.ones_like(t), value(t, z)))[1]
            return derivative

        rate = next_rate
    return rate


@pytest.mark.parametrize("net", NETS)
def test_integrands_are_their_formulas(net: str, block_arrays: BlockArrays) -> None:
    """The table of docs/numerics.md, section 5, from the plain Jacobian of one example."""
    model, shape = NETS[net]
    block, arrays = block_arrays(model, shape)
    z, eps = _normal("z", 2, *shape), _normal("eps", 2, *shape)
    assert INTEGRANDS.keys() | {"steer", "tpr"} == set(get_args(RegularizerName))

    def expected(t: jax.Array, z: jax.Array, eps: jax.Array) -> dict[str, jax.Array]:
        def value(t: jax.Array, flat: jax.Array) -> jax.Array:
            f = Net(model, block, arrays).value(t, flat.reshape(1, *shape))
            return f.reshape(-1)

        z, eps = z.reshape(-1), eps.reshape(-1)
        f, J = value(t, z), jax.jacrev(value, argnums=1)(t, z)
        diagonal, D = jnp.diagonal(J), len(z)
        taylor = {f"taylor_{K}": jnp.mean(_along(value, K)(t, z) ** 2) for K in (2, 3, 4)}
        return taylor | {
            "directional_jvp": jnp.sum((J @ f) ** 2),
            "ffjord.dl2": jnp.sqrt(jnp.mean((f @ J) ** 2)),
            "ffjord.jdiag": jnp.sqrt(jnp.mean(diagonal**2)),
            "ffjord.jfrob": jnp.sqrt(jnp.mean(J**2)),
            "ffjord.joffdiag": jnp.sum((J - jnp.diag(diagonal)) ** 2) / (D * (D - 1)),
            "ffjord.l1": jnp.mean(jnp.abs(f)),
            "ffjord.l2": jnp.sqrt(jnp.mean(f**2)),
            "jacobian_sum": jnp.sum((eps @ J) ** 2),
            "kinetic_sum": jnp.sum(f**2),
            # Every D-th entry of the flat Jacobian, from the first.
            "released.jdiag": jnp.sqrt(jnp.mean(J.reshape(-1)[::D] ** 2)),
            "released.joffdiag": (jnp.sum(J**2) - jnp.sum(J.reshape(-1)[::D] ** 2))
            / (D * (D - 1)),
            "rnode.directional": jnp.mean((f @ J) ** 2) / 2,
            "rnode.jacobian": jnp.mean((eps @ J) ** 2),
            "rnode.kinetic": jnp.mean(f**2) / 2,
            "rnode.total": jnp.mean((f @ J + jax.jacfwd(value)(t, z)) ** 2) / 2,
        }

    @jax.jit
    def both(t: jax.Array) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        at = Derivatives(Net(model, block, arrays), t, z, eps)
        found: dict[str, jax.Array] = {
            name: integrand(at) for name, integrand in INTEGRANDS.items()
        }
        return found, jax.vmap(expected, (None, 0, 0))(t, z, eps)

    found, wanted = both(jnp.asarray(T))
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-9, err_msg=name)
        assert np.min(value) > 1e-5, name


@pytest.mark.parametrize(
    ("kind", "nonlinearity"),
    [*zip(get_args(LayerName), (*get_args(NonlinearityName), "tanh"), strict=True)],
)
def test_taylor_derivatives_against_differences(
    kind: LayerName, nonlinearity: NonlinearityName, block_arrays: BlockArrays
) -> None:
    """Central differences of the derivative before, along the solution; error O(h^2)."""
    model = ModelSpec(kind, (5, 3), nonlinearity)
    block, arrays = block_arrays(model, (2,))

    @jax.jit
    def derivatives(t: jax.Array, z: jax.Array) -> list[jax.Array]:
        dynamics = Net(model, block, arrays)
        return [dynamics.solution_derivative(t, z, order) for order in (1, 2, 3, 4)]

    h, z = 1e-3, np.asarray(_normal("z", 3, 2))
    here = [np.asarray(d) for d in derivatives(jnp.asarray(T), z)]
    around = []
    for step in (h, -h):
        # The solution near t, to fourth order in h.
        moved = z + sum(d * step ** (k + 1) / math.factorial(k + 1) for k, d in enumerate(here))
        around.append(derivatives(jnp.asarray(T + step), jnp.asarray(moved)))
    for order in (1, 2, 3):
        difference = (np.asarray(around[0][order - 1]) - np.asarray(around[1][order - 1])) / (
            2 * h
        )
        np.testing.assert_allclose(here[order], difference, rtol=1e-4, atol=1e-4)


def test_a_linear_field_by_hand(block_arrays: BlockArrays) -> None:
    """F = A z + t w: J = A, df/dt = w, d^2z/dt^2 = A f + w, d^K z = A d^(K - 1) z."""
    block, _ = block_arrays(ModelSpec("concat_v2", (), "tanh"), (2,))
    A, w = np.array([[1.0, 2.0], [-3.0, 0.5]]), np.array([0.25, -1.0])
    arrays = {
        "layer0/weight": jnp.asarray(A),
        "layer0/bias": jnp.zeros(2),
        "layer0/time_weight": jnp.asarray(w),
    }
    z, eps = np.array([[0.5, -1.0]]), np.array([[1.0, -1.0]])
    f = A @ z[0] + T * w
    third = A @ (A @ f + w)
    by_hand: dict[RegularizerName, float] = {
        "rnode.jacobian": ((1 + 3) ** 2 + (2 - 0.5) ** 2) / 2,
        "ffjord.jfrob": math.sqrt((1 + 4 + 9 + 0.25) / 4),
        "ffjord.jdiag": math.sqrt((1 + 0.25) / 2),
        "ffjord.joffdiag": (4 + 9) / 2,
        "released.jdiag": math.sqrt((1 + 9) / 2),
        "released.joffdiag": (4 + 0.25) / 2,
        "kinetic_sum": f @ f,
        "directional_jvp": (A @ f) @ (A @ f),
        "rnode.directional": (A.T @ f) @ (A.T @ f) / 4,
        "rnode.total": (A.T @ f + w) @ (A.T @ f + w) / 4,
        "taylor_2": (A @ f + w) @ (A @ f + w) / 2,
        "taylor_3": third @ third / 2,
        "taylor_4": (A @ third) @ (A @ third) / 2,
    }
    end = jnp.asarray(2.0)
    inputs = Inputs(arrays, end, jnp.asarray(eps), jnp.zeros(()), jnp.ones(()))
    field = Augmented(ModelSpec("concat_v2", (), "tanh"), block, "exact", tuple(by_hand))
    # At t = T s; every rate carries the factor T.
    dz, dq = jax.jit(lambda s: field(inputs, s, jnp.asarray(z)))(jnp.asarray(T / 2))
    np.testing.assert_allclose(dz[0], 2 * f, rtol=1e-13)
    np.testing.assert_allclose(dq[0, 0], -2 * 1.5, rtol=1e-13)
    np.testing.assert_allclose(dq[1:, 0], 2 * np.array([*by_hand.values()]), rtol=1e-12)


def test_one_dimension_has_nothing_off_the_diagonal(block_arrays: BlockArrays) -> None:
    block, arrays = block_arrays(ModelSpec("ignore", (3,)), (1,))
    at = Derivatives(
        Net(ModelSpec("ignore", (3,)), block, arrays),
        jnp.asarray(T),
        _normal("z", 2, 1),
        None,
    )
    assert np.all(np.asarray(INTEGRANDS["ffjord.joffdiag"](at)) == 0)


@pytest.mark.parametrize(
    "name", ["ffjord.l2", "ffjord.dl2", "ffjord.jfrob", "ffjord.jdiag", "released.jdiag"]
)
def test_roots_of_a_field_at_rest_have_a_gradient(
    name: RegularizerName, block_arrays: BlockArrays
) -> None:
    """A net whose last layer starts at zero."""
    model = ModelSpec("concat", (3,))
    block, arrays = block_arrays(model, (2,))
    arrays |= {k: jnp.zeros_like(v) for k, v in arrays.items() if k.startswith("layer1")}
    z = _normal("z", 2, 2)

    def penalty(arrays: dict[str, jax.Array]) -> jax.Array:
        return jnp.sum(INTEGRANDS[name](Derivatives(Net(model, block, arrays), z[0, 0], z, None)))

    for value in jax.jit(jax.grad(penalty))(arrays).values():
        assert np.all(np.isfinite(value))
