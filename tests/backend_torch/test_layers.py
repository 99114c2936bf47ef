"""Layers against their formulas, written out with PyTorch's modules, and against autodiff."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from harness_torch.net.layers import Layers, make_layers
from torch import Tensor
from torch.nn import functional as F

from harness.architecture.layers import layer_arrays
from harness.architecture.transforms import LayerShape
from harness.streams.stream import Stream
from harness.trial import LayerName

T = torch.tensor(0.3, dtype=torch.float64)
# Odd places, so that rows and columns differ: 3 -> 5 features, 2 -> 3 channels of 4 x 6.
SHAPES = {
    None: LayerShape((3,), (5,)),
    1: LayerShape((2, 4, 6), (3, 4, 6), 1),
    2: LayerShape((2, 4, 6), (3, 2, 3), 2),
    -2: LayerShape((2, 4, 6), (3, 8, 12), -2),
}
CASES = list(itertools.product(get_args(LayerName), SHAPES))


def _normal(name: str, *shape: int) -> Tensor:
    return torch.tensor(Stream(3, name).normal(shape))


def _arrays(kind: LayerName, shape: LayerShape) -> dict[str, Tensor]:
    """All arrays at random; a hypernet's weights start at zero and would hide the time."""
    specs = layer_arrays(kind, shape, "layer")
    return {
        spec.name.removeprefix("layer/"): 0.5 * _normal(spec.name, *spec.shape) for spec in specs
    }


def _layers(kind: LayerName, stride: int | None) -> Layers:
    return make_layers(kind, [SHAPES[stride]], [_arrays(kind, SHAPES[stride])])


def _map(h: Tensor, weight: Tensor, bias: Tensor, stride: int | None) -> Tensor:
    if stride is None:
        return F.linear(h, weight, bias)
    if stride == -2:
        return F.conv_transpose2d(h, weight.transpose(0, 1), bias, stride=2, padding=1)
    return F.conv2d(h, weight, bias, stride=stride, padding=1)


def _formula(kind: LayerName, stride: int | None, h: Tensor, t: float) -> Tensor:
    """As FFJORD's released code computes a layer: constant channels appended, gates afterwards."""
    shape = SHAPES[stride]
    a: Any = _arrays(kind, shape)

    def per_output(x: Tensor) -> Tensor:
        return x if stride is None else x[:, None, None]

    if kind == "blend":
        y0, y1 = (_map(h, a[f"weight{i}"], a[f"bias{i}"], stride) for i in range(2))
        return y0 + (y1 - y0) * t
    if kind == "hyper":
        out = a["hyper0_weight"] * t + a["hyper0_bias"]
        if stride is None:
            out = a["hyper1_weight"] @ torch.tanh(out) + a["hyper1_bias"]
        bias, weight = out.split([shape.outputs[0], len(out) - shape.outputs[0]])
        kernel = () if stride is None else (shape.kernel, shape.kernel)
        weight = weight.view(shape.outputs[0], shape.inputs[0], *kernel)
        return _map(h, weight, bias, stride)
    if kind == "concatcoord" and stride is not None:
        one = torch.ones_like(h[:, :1])
        rows = torch.arange(4.0).double()[:, None] * one
        columns = torch.arange(6.0).double() * one
        h = torch.cat([h, t * one, rows, columns], dim=1)
    elif kind in ("concat", "concatcoord"):
        h = torch.cat([t * torch.ones_like(h[:, :1]), h], dim=1)
    y = _map(h, a["weight"], a["bias"], stride)
    if "gate_weight" in a:
        y = y * per_output(torch.sigmoid(a["gate_weight"] * t + a["gate_bias"]))
    if "time_weight" in a:
        y = y + per_output(a["time_weight"] * t)
    return y


@pytest.mark.parametrize(("kind", "stride"), CASES)
def test_a_layer_is_its_formula(kind: LayerName, stride: int | None) -> None:
    h = _normal("h", 4, *SHAPES[stride].inputs)
    found = _layers(kind, stride).at(T)[0].apply(h)
    assert found.shape[1:] == SHAPES[stride].outputs
    torch.testing.assert_close(found, _formula(kind, stride, h, 0.3), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("kind", "stride"), CASES)
def test_tangent_and_cotangent_are_the_derivatives(kind: LayerName, stride: int | None) -> None:
    layer = _layers(kind, stride).at(T)[0]
    h = _normal("h", 4, *SHAPES[stride].inputs)
    v, u = (_normal(x, 2, 4, *s) for x, s in zip("vu", _sides(stride), strict=True))
    tangents = torch.stack([torch.func.jvp(layer.apply, (h,), (row,))[1] for row in v])
    pull_back: Callable[..., Any] = torch.func.vjp(layer.apply, h)[1]
    cotangents = torch.stack([pull_back(row)[0] for row in u])
    torch.testing.assert_close(layer.tangent(v), tangents, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(layer.cotangent(u), cotangents, rtol=1e-12, atol=1e-13)


def _sides(stride: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return SHAPES[stride].inputs, SHAPES[stride].outputs


@pytest.mark.parametrize(("kind", "stride"), CASES)
def test_the_series_in_time_is_taylors(kind: LayerName, stride: int | None) -> None:
    """Coefficient k of A(t) h + c(t) is the k-th derivative by nested forward mode, over k!."""
    layers, h = _layers(kind, stride), _normal("h", 4, *SHAPES[stride].inputs)
    zero = torch.zeros_like(layers.at(T)[0].apply(h))
    function: Callable[[Tensor], Tensor] = lambda t: layers.at(t)[0].apply(h)  # noqa: E731
    for k, terms in enumerate(layers.series(T, 3), start=1):
        matrix, shift = terms[0]
        found = zero if matrix is None else matrix.tangent(h)
        found = found if shift is None else found + shift
        function = _derivative(function)
        expected = function(T) / math.factorial(k)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


def _derivative(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda t: torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]


def test_layers_of_unequal_widths_keep_their_own_vectors() -> None:
    """The vectors of all layers are joined for speed; each layer gets its own part back."""
    shapes = [LayerShape((3,), (5,)), LayerShape((5,), (2,))]
    for kind in ("concat", "concat_v2", "squash", "concatsquash", "ignore"):
        arrays = [_arrays(kind, shape) for shape in shapes]
        together = make_layers(kind, shapes, arrays).at(T)
        for index, shape in enumerate(shapes):
            alone = make_layers(kind, [shape], [arrays[index]]).at(T)[0]
            h = _normal("h", 4, *shape.inputs)
            torch.testing.assert_close(together[index].apply(h), alone.apply(h), rtol=0, atol=0)
