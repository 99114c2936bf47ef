"""Layers that see the time: the formulas of `harness.architecture.layers`.

Matrices and kernels are scaled rather than the products with them: the same number, but the gate
touches [out, in] entries once instead of [batch, out] entries for the value and every tangent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import jax
import jax.numpy as jnp

from harness.architecture.layers import extra_channels
from harness.architecture.transforms import LayerShape
from harness.trial import LayerName
from harness_jax.net.affine import Affine
from harness_jax.net.convolution import convolve

__all__ = ["TIMED_WEIGHTS", "Apply", "Layers", "layers_at_times", "layers_of"]

Arrays = Mapping[str, jax.Array]

Layers = Callable[[jax.Array], list[Affine]]
"""t, of shape (), -> all layers of a block at that time."""

Apply = Callable[[jax.Array], jax.Array]
"""h -> A h + c of the examples [batch, ...], A and c those of each example's own time."""

TIMED_WEIGHTS = frozenset({"blend", "concatsquash", "hyper", "squash"})
"""Kinds whose matrices and kernels depend on the time; those of the others are constant."""


def layers_of(kind: LayerName, arrays: Sequence[Arrays], shapes: Sequence[LayerShape]) -> Layers:
    """Returns the layers of a block as functions of the time.

    Arguments:
        kind: How a layer sees the time.
        arrays: Arrays of each layer by the last part of their names.
        shapes: Their shapes.
    """
    if kind == "blend":
        return lambda t: [_blend(a, s, t) for a, s in zip(arrays, shapes, strict=True)]
    if kind == "hyper":
        return lambda t: [_hyper(a, s, t) for a, s in zip(arrays, shapes, strict=True)]
    constant = [_fold_channels(kind, a, s) for a, s in zip(arrays, shapes, strict=True)]
    return _gated(constant, [shape.stride for shape in shapes])


def layers_at_times(
    kind: LayerName, arrays: Sequence[Arrays], shapes: Sequence[LayerShape], t: jax.Array
) -> list[Apply]:
    """The layers of a block where every example has a time of its own, t [batch].

    Here the time scales the products instead of the weights, which all examples share; but for
    `hyper`, whose weights are each example's.
    """
    at_time = {"blend": _blend_at_times, "hyper": _hyper_at_times}.get(kind)
    layers: list[Apply] = []
    for layer, shape in zip(arrays, shapes, strict=True):
        times = t.reshape(-1, *(1,) * len(shape.outputs))
        if at_time is None:
            layers.append(_gated_at_times(_fold_channels(kind, layer, shape), shape, times))
        else:
            layers.append(at_time(layer, shape, times))
    return layers


def _blend_at_times(arrays: Arrays, shape: LayerShape, t: jax.Array) -> Apply:
    start, end = (Affine(arrays[f"weight{i}"], arrays[f"bias{i}"], shape.stride) for i in range(2))
    return lambda h: (1 - t) * start.apply(h) + t * end.apply(h)


def _hyper_at_times(arrays: Arrays, shape: LayerShape, t: jax.Array) -> Apply:
    def one(t: jax.Array, h: jax.Array) -> jax.Array:
        return _hyper(arrays, shape, t).apply(h)

    return lambda h: jax.vmap(one)(t.reshape(-1), h)


def _gated_at_times(arrays: Arrays, shape: LayerShape, t: jax.Array) -> Apply:
    def per_output(vector: jax.Array) -> jax.Array:
        return vector if vector.ndim > 1 or shape.stride is None else vector[:, None, None]

    layer = Affine(arrays["weight"], arrays["bias"], shape.stride)
    timed = {name: per_output(arrays[name]) for name in arrays if name not in ("weight", "bias")}

    def apply(h: jax.Array) -> jax.Array:
        y = layer.apply(h)
        if "gate_weight" in timed:
            y = y * jax.nn.sigmoid(timed["gate_weight"] * t + timed["gate_bias"])
        return y + timed["time_weight"] * t if "time_weight" in timed else y

    return apply


def _blend(arrays: Arrays, shape: LayerShape, t: jax.Array) -> Affine:
    weight, bias = (
        (1 - t) * arrays[f"{name}0"] + t * arrays[f"{name}1"] for name in ("weight", "bias")
    )
    return Affine(weight, bias, shape.stride)


def _hyper(arrays: Arrays, shape: LayerShape, t: jax.Array) -> Affine:
    parameters = arrays["hyper0_weight"] * t + arrays["hyper0_bias"]
    if shape.stride is None:
        parameters = arrays["hyper1_weight"] @ jnp.tanh(parameters) + arrays["hyper1_bias"]
    out = shape.outputs[0]
    kernel = () if shape.stride is None else (shape.kernel, shape.kernel)
    weight = parameters[out:].reshape(out, shape.inputs[0], *kernel)
    return Affine(weight, parameters[:out], shape.stride)


def _fold_channels(kind: LayerName, arrays: Arrays, shape: LayerShape) -> Arrays:
    """Turns the weights of constant input channels into what the layer adds: `time_weight`, times
    t, and for those of the coordinates a part of `bias`. For a convolution both are maps over the
    image, since zero padding ends a constant channel, too.
    """
    extra = extra_channels(kind, shape)
    if not extra:
        return arrays
    weight, bias = arrays["weight"], arrays["bias"]
    if shape.stride is None:
        return {"weight": weight[:, 1:], "time_weight": weight[:, 0], "bias": bias}

    def over_image(channels: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolve(channels, kernel, shape.stride or 1)

    # The time comes first in concat, after h and before row and column in concatcoord.
    at = 0 if extra == 1 else shape.inputs[0]
    _, height, width = shape.inputs
    ones = jnp.ones((1, height, width), weight.dtype)
    time_weight = over_image(ones, weight[:, at : at + 1])
    bias = jnp.broadcast_to(bias[:, None, None], time_weight.shape)
    if extra == 1:
        return {"weight": weight[:, 1:], "time_weight": time_weight, "bias": bias}
    row, column = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    coordinates = jnp.stack([row, column]).astype(weight.dtype)
    bias = bias + over_image(coordinates, weight[:, at + 1 :])
    return {"weight": weight[:, :at], "time_weight": time_weight, "bias": bias}


def _gated(arrays: Sequence[Arrays], strides: Sequence[int | None]) -> Layers:
    """Layers A = g W, c = g b + time_weight t, g = sigmoid(gate_weight t + gate_bias), or as much
    of it as there are arrays for. What depends on t alone is computed for all layers in one go.
    """
    shapes = [a["bias"].shape for a in arrays]
    ends = list(accumulate(a["bias"].size for a in arrays[:-1]))
    joined = {
        name: jnp.concatenate([a[name].reshape(-1) for a in arrays])
        for name in ("bias", "gate_bias", "gate_weight", "time_weight")
        if name in arrays[0]
    }

    def at(t: jax.Array) -> list[Affine]:
        shift, weights = joined["bias"], [a["weight"] for a in arrays]
        if "gate_weight" in joined:
            gate = jax.nn.sigmoid(joined["gate_weight"] * t + joined["gate_bias"])
            shift = shift * gate
            weights = [
                weight * g.reshape(-1, *(1,) * (weight.ndim - 1))
                for weight, g in zip(weights, jnp.split(gate, ends), strict=True)
            ]
        if "time_weight" in joined:
            shift = joined["time_weight"] * t + shift
        shifts = [c.reshape(s) for c, s in zip(jnp.split(shift, ends), shapes, strict=True)]
        return [Affine(*parts) for parts in zip(weights, shifts, strides, strict=True)]

    return at
