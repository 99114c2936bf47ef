"""Layers against their formulas in numpy; nonlinearities against jax's own derivatives."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from harness_jax.net import convolution
from harness_jax.net.convolution import convolve
from harness_jax.net.layers import layers_of
from harness_jax.net.nonlinearities import NONLINEARITIES

from harness.architecture.layers import layer_arrays
from harness.architecture.transforms import LayerShape
from harness.streams.stream import Stream
from harness.trial import LayerName, NonlinearityName

Array = npt.NDArray[np.float64]
T = 0.3
SHAPES = {
    "thin": LayerShape((3,), (5,)),
    "wide": LayerShape((7,), (5,)),
    "stride 1": LayerShape((3, 4, 6), (5, 4, 6), 1),
    "stride 2": LayerShape((3, 4, 6), (5, 2, 3), 2),
    "stride -2": LayerShape((3, 2, 3), (5, 4, 6), -2),
}

# Written plainly, for autodiff to differentiate.
PLAIN: dict[NonlinearityName, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "elu": lambda x, beta: jax.nn.elu(x),
    "identity": lambda x, beta: x,
    "relu": lambda x, beta: jax.nn.relu(x),
    "softplus": lambda x, beta: jax.nn.softplus(x),
    "square": lambda x, beta: x**2,
    "swish": lambda x, beta: x * jax.nn.sigmoid(beta * x),
    "tanh": lambda x, beta: jnp.tanh(x),
}


def _normal(name: str, *shape: int) -> Array:
    return Stream(1, name).normal(shape)


def _times(h: Array, weight: Array, shape: LayerShape) -> Array:
    """The product of a layer, written out: by entries of the kernel, on a padded image."""
    if shape.stride is None:
        return h @ weight.T
    (_, height, width), k = shape.outputs, shape.kernel
    step = abs(shape.stride)
    if shape.stride > 0:
        padded = np.pad(h, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = [
            (weight[:, :, i, j], padded[:, :, i:, j:][:, :, ::step, ::step][:, :, :height, :width])
            for i in range(k)
            for j in range(k)
        ]
        out = np.zeros((len(h), len(weight), height, width))
        for w, p in windows:
            out += np.einsum("oi,bihw->bohw", w, p)
        return out
    out = np.zeros((len(h), len(weight), height + 2, width + 2))
    for i in range(k):
        for j in range(k):
            spread = np.einsum("oi,bihw->bohw", weight[:, :, i, j], h)
            out[:, :, i : i + height : step, j : j + width : step] += spread
    return out[:, :, 1:-1, 1:-1]


def _expected(kind: LayerName, a: dict[str, Array], h: Array, shape: LayerShape) -> Array:
    """The formulas of harness.architecture.layers, word for word."""

    def over(vector: Array) -> Array:
        return vector if shape.stride is None else vector[:, None, None]

    if kind == "blend":
        first, second = (_times(h, a[f"weight{i}"], shape) + over(a[f"bias{i}"]) for i in "01")
        return (1 - T) * first + T * second
    if kind == "hyper":
        found = a["hyper0_weight"] * T + a["hyper0_bias"]
        if shape.stride is None:
            found = a["hyper1_weight"] @ np.tanh(found) + a["hyper1_bias"]
        rows = shape.outputs[0]
        kernel = () if shape.stride is None else (shape.kernel, shape.kernel)
        weight = found[rows:].reshape(rows, shape.inputs[0], *kernel)
        return _times(h, weight, shape) + over(found[:rows])
    time = np.full_like(h[:, :1], T)
    if kind == "concat" or (kind == "concatcoord" and shape.stride is None):
        h = np.concatenate([time, h], axis=1)
    elif kind == "concatcoord":
        row, column = np.indices(h.shape[2:])
        h = np.concatenate([h, time, 0 * time + row, 0 * time + column], axis=1)
    out = _times(h, a["weight"], shape) + over(a["bias"])
    if "squash" in kind:
        out = out / (1 + np.exp(-over(a["gate_weight"] * T + a["gate_bias"])))
    if kind in ("concat_v2", "concatsquash"):
        out = out + over(a["time_weight"] * T)
    return out


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("kind", get_args(LayerName))
def test_a_layer_is_its_formula_and_affine(kind: LayerName, shape: LayerShape) -> None:
    arrays = {
        spec.name.removeprefix("layer/"): _normal(spec.name, *spec.shape)
        for spec in layer_arrays(kind, shape, "layer")
    }
    on_device = {name: jnp.asarray(array) for name, array in arrays.items()}
    h, v = (jnp.asarray(_normal(name, 2, *shape.inputs)) for name in "hv")
    u = jnp.asarray(_normal("u", 2, *shape.outputs))

    @jax.jit
    def passes(t: jax.Array) -> list[jax.Array]:
        (layer,) = layers_of(kind, [on_device], [shape])(t)
        tangents = layer.tangent(jnp.stack([v, h]))
        return [layer.apply(h), layer.apply(h + v), tangents, layer.cotangent(u)]

    value, moved, tangents, cotangent = map(np.asarray, passes(jnp.asarray(T)))
    close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
    close(value, _expected(kind, arrays, np.asarray(h), shape))
    close(tangents[0], moved - value)
    close(np.sum(u * tangents[1]), np.sum(cotangent * h))
    close(np.sum(u * tangents[0]), np.sum(cotangent * v))


def test_layers_are_told_apart() -> None:
    """What is computed for all layers at once is split where they end."""
    shapes = [LayerShape((2,), (5,)), LayerShape((5,), (3,))]
    arrays = [
        {s.name.removeprefix(f"{i}/"): _normal(s.name, *s.shape) for s in specs}
        for i, specs in enumerate(
            layer_arrays("concatsquash", s, str(i)) for i, s in enumerate(shapes)
        )
    ]
    on_device = [{name: jnp.asarray(a) for name, a in own.items()} for own in arrays]
    layers = layers_of("concatsquash", on_device, shapes)(jnp.asarray(T))
    for layer, own, shape in zip(layers, arrays, shapes, strict=True):
        h = _normal("h", 4, *shape.inputs)
        np.testing.assert_allclose(
            layer.apply(jnp.asarray(h)), _expected("concatsquash", own, h, shape), rtol=1e-13
        )


@pytest.mark.parametrize("name", get_args(NonlinearityName))
def test_value_derivative_and_their_derivatives(name: NonlinearityName) -> None:
    """The pair is (value, derivative); autodiff of either gives the next one, and that by beta."""
    x = jnp.asarray([-45.0, -3.0, -0.5, -1e-3, 1e-3, 0.5, 3.0, 19.0, 21.0, 45.0])
    beta = jnp.asarray(0.7)
    pair, plain = NONLINEARITIES[name], PLAIN[name]

    def all_of(
        value: Callable[[jax.Array, jax.Array], jax.Array],
        derivative: Callable[[jax.Array, jax.Array], jax.Array],
    ) -> Callable[[], dict[str, jax.Array]]:
        def found() -> dict[str, jax.Array]:
            along, by_beta = (jnp.ones_like(x), jnp.zeros(())), (jnp.zeros_like(x), jnp.ones(()))
            return {
                "value": value(x, beta),
                "derivative": derivative(x, beta),
                "of value": jax.jvp(value, (x, beta), along)[1],
                "of derivative": jax.jvp(derivative, (x, beta), along)[1],
                "of value, backwards": jax.vjp(value, x, beta)[1](x)[0],
                "by beta": jax.jvp(value, (x, beta), by_beta)[1],
                "of derivative by beta": jax.jvp(derivative, (x, beta), by_beta)[1],
                "by beta, backwards": jax.vjp(derivative, x, beta)[1](x)[1],
            }

        return found

    first = jax.vmap(jax.grad(plain), (0, None))
    expected = jax.jit(all_of(plain, first))()
    found = jax.jit(all_of(lambda *at: pair(*at)[0], lambda *at: pair(*at)[1]))()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-12, atol=1e-14, err_msg=key)


@pytest.mark.parametrize("name", get_args(NonlinearityName))
def test_nothing_overflows(name: NonlinearityName) -> None:
    value, derivative = NONLINEARITIES[name](jnp.asarray([-800.0, 800.0]), jnp.ones(()))
    assert np.isfinite(value).all()
    assert np.isfinite(derivative).all()


@pytest.mark.parametrize("name", ["stride 1", "stride 2", "stride -2"])
def test_convolutions_have_the_derivatives_that_jax_gives_them_elsewhere(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor they are those of a primitive; on every other device they are jax's."""
    shape = SHAPES[name]
    stride, k = shape.stride or 1, shape.kernel
    h, dh = (jnp.asarray(_normal(n, 2, *shape.inputs)) for n in ("h", "dh"))
    kernels = (_normal(n, shape.outputs[0], shape.inputs[0], k, k) for n in ("kernel", "dkernel"))
    kernel, dkernel = map(jnp.asarray, kernels)
    bar = jnp.asarray(_normal("bar", 2, *shape.outputs))

    def derivatives() -> list[jax.Array]:
        function = partial(convolve, stride=stride)
        value, tangent = jax.jvp(function, (h, kernel), (dh, dkernel))
        return [value, tangent, *jax.vjp(function, h, kernel)[1](bar)]

    found = derivatives()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for ours, theirs in zip(found, derivatives(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["stride 1", "stride 2", "stride -2"])
def test_convolutions_can_be_batched_and_differentiated_twice(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = SHAPES[name]
    stride, k = shape.stride or 1, shape.kernel
    h = jnp.asarray(_normal("h", 3, 2, *shape.inputs))
    kernels = jnp.asarray(_normal("kernel", 3, shape.outputs[0], shape.inputs[0], k, k))

    def results() -> list[jax.Array]:
        function = partial(convolve, stride=stride)

        def cubed(s: jax.Array) -> jax.Array:
            return function(s * h[0], s * s * kernels[0])

        def rate(s: jax.Array) -> jax.Array:
            found: jax.Array = jax.jvp(cubed, (s,), (jnp.ones_like(s),))[1]
            return found

        _, curvature = jax.jvp(rate, (jnp.ones(()),), (jnp.ones(()),))
        backwards = jax.grad(lambda s: jnp.sum(rate(s) ** 2))(jnp.ones(()))
        batched = jax.vmap(function)(h, kernels)
        return [curvature, backwards, batched, jax.vmap(function, (0, None))(h, kernels[0])]

    found = results()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for ours, theirs in zip(found, results(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


def test_without_the_interface_to_primitives_convolutions_are_those_of_jax(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def plain(*_: object) -> jax.Array:
        return jnp.zeros(())

    assert convolution._primitive_or(plain) is not plain
    monkeypatch.setitem(sys.modules, "jax.extend.core", None)
    assert convolution._primitive_or(plain) is plain
