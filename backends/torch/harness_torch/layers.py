"""The layers of the dynamics as functions of the time (harness.layer_arrays has the formulas)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.stages import LayerShape
from harness.trial import LayerName
from harness_torch.affine import Affine, Map, Term, affine, laid_out, per_output
from harness_torch.gated_layers import GatedLayers
from harness_torch.nonlinearities import series_of_line, tanh_series

__all__ = ["Layers", "make_layers"]

Arrays = Sequence[Mapping[str, Tensor]]


class Layers(Protocol):
    """All layers of a block."""

    def at(self, t: Tensor) -> Sequence[Map]:
        """The layers at the time t, 0-dimensional."""

    def series(self, t: Tensor, order: int) -> list[list[Term]]:
        """The Taylor coefficients 1..order of every layer in time, by order."""


def make_layers(kind: LayerName, shapes: Sequence[LayerShape], arrays: Arrays) -> Layers:
    """The layers of a block; what does not depend on the time is computed here, once.

    Arguments:
        kind: Name of the layer.
        shapes: Shapes of each layer.
        arrays: Arrays of each layer, by the last part of their names.
    """
    if kind == "blend":
        return _Blend(shapes, arrays)
    if kind == "hyper":
        return _Hyper(shapes, arrays)
    return GatedLayers(kind, shapes, arrays)


class _Blend:
    """A line between two layers: the first at t = 0, the second at t = 1."""

    def __init__(self, shapes: Sequence[LayerShape], arrays: Arrays) -> None:
        self._strides = [shape.stride for shape in shapes]
        self._start, self._slope = [], []
        for stride, layer in zip(self._strides, arrays, strict=True):
            ends = [
                (laid_out(layer[f"weight{i}"], stride), per_output(layer[f"bias{i}"], stride))
                for i in range(2)
            ]
            self._start.append(ends[0])
            self._slope.append((ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]))

    def at(self, t: Tensor) -> list[Affine]:
        return [
            affine(torch.addcmul(w, dw, t), torch.addcmul(b, db, t), stride)
            for (w, b), (dw, db), stride in zip(
                self._start, self._slope, self._strides, strict=True
            )
        ]

    def series(self, t: Tensor, order: int) -> list[list[Term]]:
        first: list[Term] = [
            (affine(dw, db, stride), db)
            for (dw, db), stride in zip(self._slope, self._strides, strict=True)
        ]
        none: list[Term] = [(None, None)] * len(first)
        return [first, *[none] * (order - 1)]


class _Hyper:
    """All weights are the output of a net of the time; the bias comes first."""

    def __init__(self, shapes: Sequence[LayerShape], arrays: Arrays) -> None:
        self._shapes, self._arrays = shapes, arrays

    def at(self, t: Tensor) -> list[Affine]:
        layers = []
        for shape, arrays in zip(self._shapes, self._arrays, strict=True):
            out = torch.addcmul(arrays["hyper0_bias"], arrays["hyper0_weight"], t)
            if "hyper1_weight" in arrays:
                out = torch.addmv(arrays["hyper1_bias"], arrays["hyper1_weight"], torch.tanh(out))
            layers.append(_unpacked(shape, out))
        return layers

    def series(self, t: Tensor, order: int) -> list[list[Term]]:
        by_layer = [_hyper_series(arrays, t, order) for arrays in self._arrays]
        found: list[list[Term]] = []
        for k in range(1, order + 1):
            layers = [
                _unpacked(shape, series[k])
                for shape, series in zip(self._shapes, by_layer, strict=True)
            ]
            found.append([(layer, layer.shift) for layer in layers])
        return found


def _hyper_series(arrays: Mapping[str, Tensor], t: Tensor, order: int) -> list[Tensor]:
    """Taylor coefficients of the output of a hypernet; that of order 0 is not used."""
    weight, bias = arrays["hyper0_weight"], arrays["hyper0_bias"]
    if "hyper1_weight" not in arrays:
        return [bias, weight, *[torch.zeros_like(weight)] * (order - 1)]
    hidden = series_of_line(torch.tanh, tanh_series, weight, bias, t, order)
    return [torch.mv(arrays["hyper1_weight"], y) for y in hidden]


def _unpacked(shape: LayerShape, out: Tensor) -> Affine:
    bias, weight = out[: shape.outputs[0]], out[shape.outputs[0] :]
    kernel = () if shape.stride is None else (shape.kernel, shape.kernel)
    matrix = weight.view(shape.outputs[0], shape.inputs[0], *kernel)
    return affine(laid_out(matrix, shape.stride), per_output(bias, shape.stride), shape.stride)
