"""Derivatives of the dynamics against autodiff; the trace estimator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness_jax.dynamics import Augmented, Dynamics

from harness.errors import BackendError
from harness.streams import Stream
from harness.trial import LayerName, ModelSpec, NonlinearityName, RegularizerName, TraceName

DIM = 4
T = 0.3
MakeDynamics = Callable[[ModelSpec, int], Dynamics]
NETS = [
    (layer, nonlinearity)
    for layer in get_args(LayerName)
    for nonlinearity in get_args(NonlinearityName)
]


def _normal(name: str, *shape: int) -> jax.Array:
    return jnp.asarray(Stream(1, name).normal(shape))


@pytest.mark.parametrize(("layer", "nonlinearity"), NETS)
def test_all_passes_against_autodiff(
    layer: LayerName, nonlinearity: NonlinearityName, make_dynamics: MakeDynamics
) -> None:
    dynamics = make_dynamics(ModelSpec(layer, (6, 5), nonlinearity), DIM)
    z, u, v = _normal("z", 3, DIM), _normal("u", 3, DIM), _normal("v", 2, 3, DIM)
    t = jnp.asarray(T)
    f = dynamics.value(t, z)
    jacobian = jax.vmap(jax.jacrev(lambda row: dynamics.value(t, row[None])[0]))(z)
    close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)

    value, trace = dynamics.value_and_trace(t, z)
    close(value, f)
    close(trace, jnp.einsum("bii->b", jacobian))

    value, tangents = dynamics.value_and_tangents(t, z, v)
    close(value, f)
    close(tangents, jnp.einsum("bij,kbj->kbi", jacobian, v))

    value, cotangent = dynamics.value_and_cotangent(t, z, u)
    close(value, f)
    close(cotangent, jnp.einsum("bi,bij->bj", u, jacobian))


@pytest.mark.parametrize("trace", get_args(TraceName))
@pytest.mark.parametrize("names", [(), ("rnode.jacobian",)])
def test_one_backward_pass_differentiates_the_divergence(
    trace: TraceName, names: tuple[RegularizerName, ...], make_dynamics: MakeDynamics
) -> None:
    """Its gradient equals that of a divergence built by autodiff and differentiated again."""
    dynamics = make_dynamics(ModelSpec("concatsquash", (6, 5), "softplus"), DIM)
    z, eps = _normal("z", 3, DIM), _normal("eps", 3, DIM)
    augmented = Augmented(trace, names, eps)
    found = jax.grad(
        lambda z: -jnp.sum(augmented.rates(dynamics, jnp.asarray(1.0), jnp.asarray(T), z)[1])
    )(z)

    def divergence(z: jax.Array) -> jax.Array:
        jacobian = jax.vmap(jax.jacrev(lambda row: dynamics.value(jnp.asarray(T), row[None])[0]))(
            z
        )
        if trace == "exact":
            return jnp.einsum("bii->", jacobian)
        return jnp.einsum("bi,bij,bj->", eps, jacobian, eps)

    np.testing.assert_allclose(found, jax.grad(divergence)(z), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("law", ["normal", "rademacher"])
def test_hutchinson_is_unbiased(
    law: Literal["normal", "rademacher"], make_dynamics: MakeDynamics
) -> None:
    """z-test of the mean over 4000 probes at one point; |z| < 4 fails by chance once in 16 000,
    and the seed is fixed.
    """
    count = 4000
    dynamics = make_dynamics(ModelSpec("concatsquash", (6, 5), "tanh"), DIM)
    z = jnp.broadcast_to(_normal("z", 1, DIM), (count, DIM))
    eps = jnp.asarray(getattr(Stream(2, "eps"), law)((count, DIM)), z.dtype)
    rates = Augmented("hutchinson", (), eps).rates(dynamics, jnp.asarray(1.0), jnp.asarray(T), z)
    estimates = np.asarray(-rates[1])
    exact = float(dynamics.value_and_trace(jnp.asarray(T), z[:1])[1][0])
    error = np.std(estimates, ddof=1) / np.sqrt(count)
    assert error > 1e-4, "the estimate does not vary: the probe is not used"
    assert abs(estimates.mean() - exact) < 4 * error


def test_a_missing_probe_is_named(make_dynamics: MakeDynamics) -> None:
    dynamics = make_dynamics(ModelSpec("concat", (6,)), DIM)
    with pytest.raises(BackendError, match="no probe"):
        Augmented("hutchinson", (), None).rates(
            dynamics, jnp.asarray(T), jnp.asarray(T), _normal("z", 3, DIM)
        )
