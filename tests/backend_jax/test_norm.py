"""What stands between the blocks of a flow, and what a training step does beside the solves."""

from __future__ import annotations

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness_jax.net.spectral import divided
from harness_jax.norm import denormed, normed
from harness_jax.precision import PrecisionCheck
from harness_jax.runs import runs
from harness_jax.solve.blocks import pieces
from harness_jax.squeeze import join, split, squeeze, unsqueeze
from harness_jax.trajectory import distance_to_line
from harness_jax.warm import WarmSteps, power_of_two

from harness.errors import BackendError
from harness.streams.stream import Stream
from harness.trial import AdaptiveSolver, BatchNorm, ModelSpec, Trial


def _normal(name: str, *shape: int) -> jax.Array:
    return jnp.asarray(Stream(1, name).normal(shape))


def _norm_arrays(features: int) -> dict[str, jax.Array]:
    names = ("log_scale", "shift", "running_mean", "running_var")
    arrays = {name: 0.3 * _normal(name, features) for name in names}
    return arrays | {"running_var": arrays["running_var"] ** 2 + 0.5, "steps": jnp.asarray(2.0)}


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2, 2)])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("lag", [0.0, 0.6])
def test_norm_is_its_formula(lag: float, training: bool, shape: tuple[int, ...]) -> None:
    x, a = np.asarray(_normal("x", *shape)), {k: np.asarray(v) for k, v in _norm_arrays(3).items()}
    spec = BatchNorm(lag, decay=0.2)
    found = jax.jit(lambda x: normed(x, _norm_arrays(3), spec, training=training))(x)
    axes = (0, *range(2, len(shape)))
    mean, var = a["running_mean"], a["running_var"]
    batch_mean, batch_var = x.mean(axes), x.var(axes, ddof=1)
    if training and lag:
        mean = (batch_mean - 0.4 * (batch_mean - mean)) / (1 - 0.6**3)
        var = (batch_var - 0.4 * (batch_var - var)) / (1 - 0.6**3)
    over = (slice(None), *[None] * (len(shape) - 2))
    scale = np.exp(a["log_scale"]) / np.sqrt(var + 1e-4)
    y = (x - mean[over]) * scale[over] + a["shift"][over]
    np.testing.assert_allclose(found.y, y, rtol=1e-12, atol=1e-13)
    places = math.prod(shape[2:])
    np.testing.assert_allclose(found.a, -places * np.log(scale).sum(), rtol=1e-12)
    if not training:
        assert found.buffers == {}
        back = denormed(found.y, _norm_arrays(3))
        np.testing.assert_allclose(back, x, rtol=1e-12, atol=1e-13)
        return
    expected = {
        "running_mean": a["running_mean"] - 0.2 * (a["running_mean"] - batch_mean),
        "running_var": a["running_var"] - 0.2 * (a["running_var"] - batch_var),
        "steps": 3.0,
    }
    assert found.buffers.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found.buffers[name], value, rtol=1e-12)


@pytest.mark.parametrize("lag", [0.0, 0.6])
def test_gradients_flow_through_the_statistics_of_a_lagging_norm(lag: float) -> None:
    """Without a lag all of a shift of x is seen, with it less: the statistics move, too."""

    def mean_output(shift: jax.Array) -> jax.Array:
        x = _normal("x", 5, 3) + shift
        return jnp.mean(normed(x, _norm_arrays(3), BatchNorm(lag), training=True).y)

    h = 1e-6
    found = float(jax.grad(mean_output)(jnp.zeros(())))
    difference = float(mean_output(jnp.asarray(h)) - mean_output(jnp.asarray(-h))) / (2 * h)
    assert found == pytest.approx(difference, rel=1e-6)
    stored = _norm_arrays(3)
    gain = jnp.exp(stored["log_scale"]) / jnp.sqrt(stored["running_var"] + 1e-4)
    assert (found == pytest.approx(float(jnp.mean(gain)), rel=1e-9)) == (lag == 0)


def test_a_batch_of_one_has_no_variance() -> None:
    with pytest.raises(BackendError, match="at least 2"):
        normed(_normal("x", 1, 3), _norm_arrays(3), BatchNorm(), training=True)


def test_squeeze_orders_channel_row_column() -> None:
    x = np.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    z = np.asarray(squeeze(jnp.asarray(x)))
    assert z.shape == (2, 12, 2, 3)
    for channel in range(3):
        for row in range(2):
            for column in range(2):
                out = z[:, 4 * channel + 2 * row + column]
                np.testing.assert_array_equal(out, x[:, channel, row::2, column::2])
    np.testing.assert_array_equal(unsqueeze(jnp.asarray(z)), x)
    stays, leaves = split(jnp.asarray(z))
    np.testing.assert_array_equal(leaves, z[:, 6:].reshape(2, -1))
    np.testing.assert_array_equal(join(stays, leaves), z)


def test_spectral_norm_turns_once_and_divides() -> None:
    weight, kernel, gate = _normal("w", 4, 3), _normal("k", 4, 2, 3, 3), _normal("g", 4)
    arrays = {
        "layer0/weight": weight,
        "layer0/weight_u": jnp.ones(4) / 2,
        "layer0/weight_v": jnp.ones(3) / math.sqrt(3),
        "layer1/weight": kernel,
        "layer1/weight_u": jnp.ones(4) / 2,
        "layer1/weight_v": jnp.ones(18) / math.sqrt(18),
        "layer1/gate_weight": gate,
        "layer1/bias": gate,
        "swish_beta": jnp.ones(()),
    }
    stored, buffers = divided(arrays, training=False)
    assert buffers == {}
    sigma = arrays["layer0/weight_u"] @ weight @ arrays["layer0/weight_v"]
    np.testing.assert_allclose(stored["layer0/weight"], weight / sigma, rtol=1e-13)
    np.testing.assert_allclose(stored["layer1/gate_weight"], gate / jnp.linalg.norm(gate))
    np.testing.assert_array_equal(stored["layer1/bias"], gate)
    found, buffers = divided(arrays, training=True)
    assert found.keys() == {k for k in arrays if not k.endswith(("_u", "_v"))}
    for name, matrix in (("layer0/weight", weight), ("layer1/weight", kernel.reshape(4, -1))):
        v = np.asarray(matrix).T @ (np.ones(4) / 2)
        v = v / np.linalg.norm(v)
        u = matrix @ v
        np.testing.assert_allclose(buffers[f"{name}_v"], v, rtol=1e-12)
        np.testing.assert_allclose(buffers[f"{name}_u"], u / np.linalg.norm(u), rtol=1e-12)
        np.testing.assert_allclose(found[name] * np.linalg.norm(u), arrays[name], rtol=1e-12)
    for _ in range(200):
        arrays |= divided(arrays, training=True)[1]
    final = divided(arrays, training=False)[0]["layer0/weight"]
    assert np.linalg.norm(final, 2) == pytest.approx(1, rel=1e-10)


def test_distance_to_the_least_squares_line() -> None:
    times, points = np.array([0.0, 0.2, 0.7, 1.0]), np.asarray(_normal("points", 4, 2, 3))
    found = distance_to_line(jnp.asarray(times), jnp.asarray(points))
    for row in range(2):
        _, rest, *_ = np.polyfit(times, points[:, row], 1, full=True)
        assert float(found[row]) == pytest.approx(rest.sum() / 4, rel=1e-10)
    line = times[:, None, None] * points[0] + points[1]
    np.testing.assert_allclose(
        distance_to_line(jnp.asarray(times), jnp.asarray(line)), 0, atol=1e-28
    )
    starts, spans = pieces(jnp.asarray([0.7, 0.2]))
    np.testing.assert_allclose(starts, [0, 0.2, 0.7])
    np.testing.assert_allclose(starts + spans, [0.2, 0.7, 1], rtol=1e-15)


def test_equal_blocks_are_one_run() -> None:
    """Norms between equal blocks belong to them; the first norm and each scale stand apart."""
    model = ModelSpec(hidden=(5,), blocks=3)
    assert [[*run.blocks] for run in runs(model, (2,))] == [[0, 1, 2]]
    normal = replace(model, batch_norm=BatchNorm())
    assert [[*run.blocks] for run in runs(normal, (2,))] == [[], [0, 1, 2]]
    scaled = replace(normal, hidden=(4,), strides=(1, 1), scales=2)
    found = runs(scaled, (1, 4, 4))
    assert [[*run.blocks] for run in found] == [[], [0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert [run.name for run in found] == ["run0", "run1", "run2", "run3"]
    assert found[2].kind.block
    assert found[2].kind.block.shape == (4, 2, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_of_two_are_exact(dtype: str) -> None:
    steps = np.array([0.0, 1.0, 0.75, 0.5, 0.4999, 3e-5, 1e-30], dtype)
    found = np.asarray(power_of_two(jnp.asarray(steps)))
    expected = [math.ldexp(0.5, math.frexp(step)[1]) if step else 0.0 for step in steps.tolist()]
    assert found.tolist() == expected
    assert found.dtype == dtype


def test_warm_steps_that_are_missing_are_named(base_trial: Trial) -> None:
    cpu = jax.devices("cpu")[0]
    warm = replace(base_trial, solver=AdaptiveSolver("bosh3", first_step="warm"))
    assert WarmSteps(base_trial, 2, cpu).initial() == {}
    assert WarmSteps(warm, 2, cpu).initial().keys() == {"forward", "backward"}
    assert WarmSteps(replace(warm, gradient="direct"), 2, cpu).initial().keys() == {"forward"}
    with pytest.raises(BackendError, match="warm/backward"):
        WarmSteps(warm, 2, cpu).load_state({"warm/forward": np.zeros(2)})


def test_the_precision_is_verified() -> None:
    PrecisionCheck("float64").of_state(np.zeros(2))
    PrecisionCheck("float32").of_state(np.zeros(2, np.float32))
    with pytest.raises(
        BackendError, match="asks for float32, but this process computes in float64"
    ):
        PrecisionCheck("float32").of_state(np.zeros(2))
    with pytest.raises(BackendError, match="asks for tf32, but this process computes in float32"):
        PrecisionCheck("tf32").of_state(np.zeros(2, np.float32))
