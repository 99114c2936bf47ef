"""The linearisation of a block against autodiff; the three traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness_jax.field import Augmented
from harness_jax.net import linearization
from harness_jax.net.net import Net
from harness_jax.solve.problem import Inputs

from harness.architecture.transforms import Block, Shape
from harness.errors import BackendError
from harness.streams.stream import Stream
from harness.trial import ModelSpec, RegularizerName, TraceName

T = 0.3
BlockArrays = Callable[[ModelSpec, Shape], tuple[Block, dict[str, jax.Array]]]
IMAGE = ModelSpec("concat", (3, 4, 3), "swish", strides=(1, 2, -2, 1), residual=True)
NETS: dict[str, tuple[ModelSpec, Shape]] = {
    "linear": (ModelSpec("concatsquash", (6, 5), "softplus"), (4,)),
    "residual": (ModelSpec("hyper", (3, 5), "tanh", residual=True), (4,)),
    "no hidden layer": (ModelSpec("blend", (), "tanh"), (4,)),
    "image": (IMAGE, (1, 4, 4)),
}


def _normal(name: str, *shape: int) -> jax.Array:
    return jnp.asarray(Stream(1, name).normal(shape))


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
@pytest.mark.parametrize("net", NETS)
def test_all_passes_against_autodiff(
    net: str, chunked: bool, block_arrays: BlockArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shape = NETS[net]
    block, arrays = block_arrays(model, shape)
    z, u, v = (_normal(name, 3, *shape) for name in "zuv")
    if chunked:
        # At most three unit vectors at a time; of the 16 of an image the last chunk is not full.
        widest = max(int(np.prod(layer.outputs)) for layer in block.layers)
        monkeypatch.setattr(linearization, "CHUNK", 3 * len(z) * widest)

    @jax.jit
    def passes(t: jax.Array) -> dict[str, jax.Array]:
        dynamics = Net(model, block, arrays)
        at = dynamics.at(t, z)
        jacobian = jax.vmap(jax.jacfwd(lambda row: dynamics.value(t, row[None])[0]))(z)
        size = z[0].size
        jacobian = jacobian.reshape(len(z), size, size)
        squares = jacobian**2
        diagonal = jnp.einsum("bii->b", squares)
        sums = at.jacobian_sums()
        by_autodiff = jax.grad(lambda z: jnp.sum(jnp.sin(dynamics.at(t, z).trace())))(z)

        def plain_trace(z: jax.Array) -> jax.Array:
            one = jax.vmap(jax.jacfwd(lambda row: dynamics.value(t, row[None])[0]))(z)
            return jnp.einsum("bii->b", one.reshape(len(z), size, size))

        return {
            "tangent": at.tangent(jnp.stack([u, v])),
            "tangent, expected": jnp.stack(
                [
                    jnp.einsum("bij,bj->bi", jacobian, w.reshape(len(z), size)).reshape(z.shape)
                    for w in (u, v)
                ]
            ),
            "cotangent": at.cotangent(u).reshape(len(z), size),
            "cotangent, expected": jnp.einsum("bi,bij->bj", u.reshape(len(z), size), jacobian),
            "trace": at.trace(),
            "trace, expected": jnp.einsum("bii->b", jacobian),
            "trace of sums": sums.trace,
            "trace of sums, expected": jnp.einsum("bii->b", jacobian),
            "diagonal": sums.diagonal,
            "diagonal, expected": diagonal,
            "rest": sums.rest,
            "rest, expected": jnp.sum(squares, (1, 2)) - diagonal,
            "gradient of trace": by_autodiff,
            "gradient of trace, expected": jax.grad(lambda z: jnp.sum(jnp.sin(plain_trace(z))))(z),
        }

    found = passes(jnp.asarray(T))
    for name, value in found.items():
        if not name.endswith("expected"):
            expected = found[f"{name}, expected"]
            assert value.shape == expected.shape
            np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-12, err_msg=name)
    if net == "no hidden layer":
        assert not np.any(found["gradient of trace"])
    else:
        assert np.abs(found["gradient of trace"]).max() > 1e-4


@pytest.mark.parametrize("net", ["linear", "image"])
def test_residual_subtracts_the_state(net: str, block_arrays: BlockArrays) -> None:
    model, shape = NETS[net]
    block, arrays = block_arrays(model, shape)
    plain, residual = (Net(replace(model, residual=flag), block, arrays) for flag in (False, True))
    z, t = _normal("z", 2, *shape), jnp.asarray(T)
    both = jax.jit(lambda: (plain.value(t, z) - z, residual.value(t, z)))()
    np.testing.assert_allclose(both[0], both[1], rtol=1e-13)


@pytest.mark.parametrize("net", ["residual", "image"])
def test_bottleneck_probes_add_up_to_the_trace(net: str, block_arrays: BlockArrays) -> None:
    """sum_i e_i^T M e_i = Tr M = Tr J over the unit vectors of the bottleneck."""
    model, shape = NETS[net]
    block, arrays = block_arrays(model, shape)
    size, dimensions = int(np.prod(block.bottleneck_shape)), int(np.prod(shape))

    @jax.jit
    def traces(t: jax.Array) -> tuple[jax.Array, jax.Array]:
        one = jnp.broadcast_to(_normal("z", 1, *shape), (size, *shape))
        at = Net(model, block, arrays).at(t, one)
        basis = jnp.eye(size).reshape(size, *block.bottleneck_shape)
        return at.bottleneck(basis, block.bottleneck), at.trace()

    probed, trace = traces(jnp.asarray(T))
    assert size < 20
    np.testing.assert_allclose(
        np.sum(probed + dimensions) - dimensions, trace[0], rtol=1e-11, atol=1e-12
    )


def test_bottleneck_trace_is_its_quadratic_form(block_arrays: BlockArrays) -> None:
    """F = W1 tanh(W0 z + b0) + b1: M = diag(tanh') W0 W1."""
    block, a = block_arrays(ModelSpec("ignore", (3,), "tanh"), (4,))
    z, eps = _normal("z", 2, 4), _normal("eps", 2, 3)
    field = Augmented(ModelSpec("ignore", (3,), "tanh"), block, "bottleneck")
    inputs = Inputs(a, jnp.asarray(0.5), eps, jnp.zeros(()), jnp.ones(()))
    found = jax.jit(lambda: field(inputs, jnp.asarray(T), z)[1][0])()
    slope = 1 - np.tanh(z @ a["layer0/weight"].T + a["layer0/bias"]) ** 2
    M = slope[:, :, None] * np.asarray(a["layer0/weight"] @ a["layer1/weight"])
    np.testing.assert_allclose(found, -0.5 * np.einsum("bi,bij,bj->b", eps, M, eps), rtol=1e-12)


@pytest.mark.parametrize("names", [(), ("rnode.jacobian",)])
@pytest.mark.parametrize("net", ["residual", "image"])
def test_hutchinson_is_its_quadratic_form(
    net: str, names: tuple[RegularizerName, ...], block_arrays: BlockArrays
) -> None:
    """Of the net, less D: by tangents, or by the cotangent that a regularizer needs anyway."""
    model, shape = NETS[net]
    block, arrays = block_arrays(model, shape)
    z, eps = _normal("z", 2, *shape), _normal("eps", 2, *shape)
    inputs = Inputs(arrays, jnp.asarray(1.0), eps, jnp.zeros(()), jnp.ones(()))

    @jax.jit
    def both(t: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = Augmented(model, block, "hutchinson", names)(inputs, t, z)[1][0]
        value = partial(Net(model, block, arrays).value, t)
        of_net = jax.jvp(lambda z: value(z) + z, (z,), (eps,))[1]
        return found, z[0].size - jnp.sum((of_net * eps).reshape(2, -1), axis=1)

    found, expected = both(jnp.asarray(T))
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize("trace", ["hutchinson", "bottleneck"])
@pytest.mark.parametrize("law", ["normal", "rademacher"])
def test_the_estimators_are_unbiased(
    law: Literal["normal", "rademacher"], trace: TraceName, block_arrays: BlockArrays
) -> None:
    """z-test of the mean over 4000 probes at one point; |z| < 4 fails by chance once in 16 000,
    and the seed is fixed.
    """
    count = 4000
    model, shape = NETS["residual"]
    block, arrays = block_arrays(model, shape)
    width = block.bottleneck_shape if trace == "bottleneck" else shape
    z = jnp.broadcast_to(_normal("z", 1, *shape), (count, *shape))
    eps = jnp.asarray(getattr(Stream(2, "eps"), law)((count, *width)), z.dtype)
    inputs = Inputs(arrays, jnp.ones(()), eps, jnp.zeros(()), jnp.ones(()))
    field = Augmented(model, block, trace)
    estimates = np.asarray(jax.jit(lambda: -field(inputs, jnp.asarray(T), z)[1][0])())
    exact = float(Net(model, block, arrays).at(jnp.asarray(T), z[:1]).trace()[0])
    error = np.std(estimates, ddof=1) / np.sqrt(count)
    assert error > 1e-4, "the estimate does not vary: the probe is not used"
    assert abs(estimates.mean() - exact) < 4 * error


def test_a_missing_probe_is_named(block_arrays: BlockArrays) -> None:
    block, arrays = block_arrays(ModelSpec("concat", (6,)), (4,))
    inputs = Inputs(arrays, jnp.ones(()), None, jnp.zeros(()), jnp.ones(()))
    with pytest.raises(BackendError, match="no probe"):
        Augmented(ModelSpec("concat", (6,)), block, "hutchinson")(
            inputs, jnp.asarray(T), _normal("z", 3, 4)
        )


def test_a_bottleneck_probe_is_no_probe_of_the_state(block_arrays: BlockArrays) -> None:
    model = ModelSpec("concat", (3,))
    block, arrays = block_arrays(model, (4,))
    inputs = Inputs(arrays, jnp.ones(()), _normal("eps", 2, 3), jnp.zeros(()), jnp.ones(()))
    with pytest.raises(BackendError, match=r"shape \(2, 4\), found \(2, 3\)"):
        Augmented(model, block, "bottleneck", ("rnode.jacobian",))(
            inputs, jnp.asarray(T), _normal("z", 2, 4)
        )
