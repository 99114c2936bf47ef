"""The autoencoder with a flow in its posterior: dynamics of each example, ELBO, gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness_jax.model import JaxModel
from harness_jax.net.net import Net

from harness.architecture.arrays import initial_arrays
from harness.architecture.autoencoder import amortized_sizes
from harness.architecture.noise import draw, noise_slots
from harness.architecture.transforms import blocks_of
from harness.interface import Batch, Control, DataInfo
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    FixedSolver,
    ModelSpec,
    Posterior,
    Training,
    Trial,
)

IMAGE = (1, 4, 4)
LATENT, SIZE = 3, 4
AMORTIZATIONS = ("plain", "bias", "low_rank", "hyper")


def make_trial(amortization: Any = "low_rank", **changes: Any) -> Trial:  # noqa: ANN401
    """Two blocks over three latent dimensions, in float64."""
    posterior = Posterior(LATENT, amortization, rank=2)
    trial = Trial(
        DatasetRef("none", "none"),
        "jax",
        FixedSolver("rk4_38", 3),
        ModelSpec("concat", (4, 5), "tanh", blocks=2, posterior=posterior),
        training=Training(trace="exact"),
        precision="float64",
        gradient="checkpoint",
    )
    return replace(trial, **changes)


def _inputs(trial: Trial) -> tuple[Batch, Control]:
    x = np.round(Stream(1, "x").uniform((SIZE, *IMAGE)))
    noise = draw(noise_slots(trial, IMAGE, "train", SIZE), 0, 0, "float64")
    control = Control(trial.solver, "exact", trial.gradient, lr=1e-3, kl_weight=0.7)
    return Batch(x, noise), control


def _open(trial: Trial, likelihood: Any = "bernoulli") -> JaxModel:  # noqa: ANN401
    data = DataInfo("none", IMAGE, likelihood)
    return JaxModel(trial, data, jax.devices("cpu")[0], "native")


def _by_hand(amortization: str) -> tuple[Net, Callable[..., jax.Array], jax.Array]:
    """The net, the same for one example as `amortized_sizes` says it, and the condition."""
    trial = make_trial(amortization)
    block = blocks_of(trial.model, IMAGE)[0]
    assert trial.model.posterior is not None
    sizes = amortized_sizes(trial.model.posterior, block)
    arrays = {
        name.removeprefix("block0/"): jnp.asarray(value)
        for name, value in initial_arrays(trial, DataInfo("none", IMAGE)).items()
        if name.startswith("block0/layer")
    }
    condition = jnp.asarray(Stream(0, "condition").normal((SIZE, sum(sizes))))
    widths = [LATENT, 4, 5, LATENT]

    def one(t: jax.Array, row: jax.Array, h: jax.Array) -> jax.Array:
        start = 0
        for index, size in enumerate(sizes):
            part, start = row[start : start + size], start + size
            inside, out = widths[index], widths[index + 1]
            with_time = jnp.concatenate([t[None], h])
            if amortization == "hyper":
                h = with_time @ part[out:].reshape(inside + 1, out) + part[:out]
            else:
                new = arrays[f"layer{index}/weight"] @ with_time + arrays[f"layer{index}/bias"]
                if amortization == "bias":
                    new = new + part
                elif amortization == "low_rank":
                    U, V = part[: 2 * inside].reshape(inside, 2), part[2 * inside : -out]
                    new = new + h @ U @ V.reshape(2, out) + part[-out:]
                h = new
            h = jnp.tanh(h) if index < 2 else h
        return h

    dynamics = Net(trial.model, block, arrays | {"condition": condition})
    return dynamics, one, condition


@pytest.mark.parametrize("amortization", AMORTIZATIONS)
def test_dynamics_of_each_example(amortization: str) -> None:
    dynamics, one, condition = _by_hand(amortization)
    z, v = (jnp.asarray(Stream(0, name).normal((SIZE, LATENT))) for name in "zv")
    t = jnp.asarray(0.3)
    expected = jax.vmap(one, (None, 0, 0))(t, condition, z)
    jacobians = jax.vmap(jax.jacfwd(one, argnums=2), (None, 0, 0))(t, condition, z)
    at = dynamics.at(t, z)
    np.testing.assert_allclose(dynamics.value(t, z), expected, atol=1e-13)
    np.testing.assert_allclose(at.f, expected, atol=1e-13)
    np.testing.assert_allclose(at.trace(), jnp.einsum("bii->b", jacobians), atol=1e-13)
    np.testing.assert_allclose(at.tangent(v), jnp.einsum("bij,bj->bi", jacobians, v), atol=1e-13)
    np.testing.assert_allclose(at.cotangent(v), jnp.einsum("bij,bi->bj", jacobians, v), atol=1e-13)


@pytest.mark.parametrize("amortization", ["low_rank", "hyper"])
def test_second_derivative_along_the_solution(amortization: str) -> None:
    dynamics, one, condition = _by_hand(amortization)
    z, t = jnp.asarray(Stream(0, "z").normal((SIZE, LATENT))), jnp.asarray(0.3)

    def f(t: jax.Array, z: jax.Array) -> jax.Array:
        found: jax.Array = jax.vmap(one, (None, 0, 0))(t, condition, z)
        return found

    h, rate = 1e-5, f(t, z)
    difference = (f(t + h, z + h * rate) - f(t - h, z - h * rate)) / (2 * h)
    np.testing.assert_allclose(dynamics.solution_derivative(t, z, 2), difference, atol=1e-8)


@pytest.mark.parametrize(
    ("amortization", "mode"),
    [("low_rank", "checkpoint"), ("low_rank", "adjoint"), ("hyper", "direct")],
)
def test_gradient_matches_differences(amortization: str, mode: Any) -> None:  # noqa: ANN401
    trial = make_trial(amortization, gradient=mode)
    if mode == "adjoint":
        trial = replace(trial, solver=AdaptiveSolver("dopri5", rtol=1e-9, atol=1e-9))
    batch, control = _inputs(trial)
    model = _open(trial)
    start, state = model.arrays(), model.state()
    assert model.train_step(batch, control).fetch().failure is None
    gradient = {
        k.removeprefix("adam/m/"): 10 * v
        for k, v in model.state().items()
        if k.startswith("adam/m/")
    }
    assert any(k.startswith("encoder/block0") for k in gradient)
    direction = {k: Stream(5, k).normal(v.shape) for k, v in gradient.items()}
    h, losses = 1e-5, []
    for sign in (1, -1):
        model.load_arrays(start | {k: start[k] + sign * h * v for k, v in direction.items()})
        model.load_state(state)
        losses.append(model.train_step(batch, control).fetch().loss)
    along = sum(float(np.sum(gradient[k] * v)) for k, v in direction.items())
    scale = np.sqrt(sum(float(np.sum(v * v)) for v in gradient.values()))
    assert abs(along - (losses[0] - losses[1]) / (2 * h)) < 1e-6 * scale


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_the_elbo_is_put_together_from_its_terms(likelihood: Any) -> None:  # noqa: ANN401
    trial = make_trial()
    model = _open(trial, likelihood)
    batch, control = _inputs(trial)
    report = model.evaluate(batch, control, ("elbo_terms", "reconstruct"))
    loss = model.train_step(batch, control).fetch().loss
    rec = report.values["elbo_terms/reconstruction"]
    kl = report.values["elbo_terms/kl"]
    assert rec.shape == kl.shape == (SIZE,)
    assert float(np.mean(rec + 0.7 * kl)) == pytest.approx(loss, rel=1e-12)
    picture = report.values["reconstruct"]
    assert picture.shape == (SIZE, *IMAGE)
    if likelihood == "bernoulli":
        p = np.where(batch.x == 1, picture, 1 - picture)
        np.testing.assert_allclose(-np.log(p).sum(axis=(1, 2, 3)), rec)
    else:
        np.testing.assert_allclose(picture * 255, np.round(picture * 255), atol=1e-12)


def test_samples_are_decoded_base_samples() -> None:
    trial = make_trial()
    noise = draw(noise_slots(trial, IMAGE, "sample", 6), 0, 0, "float64")
    batch = Batch(np.empty((0, *IMAGE)), noise)
    report = _open(trial).sample(batch, Control(trial.solver, "exact"))
    assert report.values["sample"].shape == (6, *IMAGE)
    assert ((report.values["sample"] > 0) & (report.values["sample"] < 1)).all()
    assert report.nfe.forward == (0, 0)
