"""The optimisers against their formulas in numpy."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from harness_jax.optimizers import Moments, initial_moments, update

from harness.trial import Optimizer

Array = npt.NDArray[np.float64]
Name = Literal["adam", "adam_eps_hat", "adamax", "adamw"]
RATES = (0.1, 0.05, 0.05)
# One entry near zero: there eps decides, and where it is added.
GRADIENTS = [np.array([1e-8, 0.3, -2.0]) * k for k in (1.0, -0.5, 3.0)]


def _by_hand(spec: Optimizer) -> tuple[Array, Array, Array]:
    x, m, v = np.array([1.0, -2.0, 0.5]), np.zeros(3), np.zeros(3)
    for k, (lr, g) in enumerate(zip(RATES, GRADIENTS, strict=True), start=1):
        if spec.clip_norm is not None:
            g = g * min(1.0, spec.clip_norm / float(np.linalg.norm(g)))
        if spec.name in ("adam", "adamax"):
            g = g + spec.weight_decay * x
        if spec.name == "adamw":
            x = x * (1 - lr * spec.weight_decay)
        m = 0.9 * m + 0.1 * g
        if spec.name == "adamax":
            v = np.maximum(0.999 * v, np.abs(g) + spec.eps)
            x = x - lr / (1 - 0.9**k) * m / v
            continue
        v = 0.999 * v + 0.001 * g**2
        if spec.name == "adam_eps_hat":
            x = x - lr * np.sqrt(1 - 0.999**k) / (1 - 0.9**k) * m / (np.sqrt(v) + spec.eps)
        else:
            x = x - lr * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + spec.eps)
    return x, m, v


def _run(spec: Optimizer, dtype: str) -> tuple[jax.Array, Moments]:
    params = {"x": jnp.asarray([1.0, -2.0, 0.5], dtype)}
    moments = initial_moments(params, jax.devices("cpu")[0])
    step = jax.jit(lambda *at: update(spec, *at))
    for lr, g in zip(RATES, GRADIENTS, strict=True):
        params, moments = step(
            {"x": jnp.asarray(g, dtype)}, moments, params, jnp.asarray(lr, dtype)
        )
    return params["x"], moments


@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("name", ["adam", "adam_eps_hat", "adamax", "adamw"])
def test_three_steps_by_hand(name: Name, clip: float | None) -> None:
    spec = Optimizer(name, eps=1e-7, weight_decay=0.3, clip_norm=clip)
    x, m, v = _by_hand(spec)
    found, moments = _run(spec, "float64")
    np.testing.assert_allclose(found, x, rtol=1e-12)
    np.testing.assert_allclose(moments.m["x"], m, rtol=1e-12)
    np.testing.assert_allclose(moments.v["x"], v, rtol=1e-12)
    assert int(moments.steps) == 3
    single, _ = _run(spec, "float32")
    # The moves, not the values, must be as good as float32 can be.
    np.testing.assert_allclose(single - np.array([1, -2, 0.5]), x - [1, -2, 0.5], 3e-6, 5e-7)


def test_the_norm_is_over_all_arrays() -> None:
    params = {"a": jnp.asarray([3.0]), "b": jnp.asarray([4.0])}
    moments = initial_moments(params, jax.devices("cpu")[0])
    _, after = update(Optimizer(clip_norm=1.0), params, moments, params, jnp.asarray(0.1))
    np.testing.assert_allclose([after.m["a"][0], after.m["b"][0]], [0.06, 0.08], rtol=1e-14)
    _, after = update(Optimizer(clip_norm=6.0), params, moments, params, jnp.asarray(0.1))
    np.testing.assert_allclose([after.m["a"][0], after.m["b"][0]], [0.3, 0.4], rtol=1e-14)


def test_weight_decay_of_adam_eps_hat_has_no_effect() -> None:
    """As in the released FFJORD code."""
    plain, decayed = (
        _run(Optimizer("adam_eps_hat", weight_decay=decay), "float64")[0] for decay in (0.0, 0.5)
    )
    np.testing.assert_array_equal(plain, decayed)
