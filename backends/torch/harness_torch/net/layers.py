"""The layers of the dynamics as functions of the time (harness.architecture.layers has the
formulas).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.architecture.layers import extra_channels
from harness.architecture.transforms import LayerShape
from harness.trial import LayerName
from harness_torch.net.affine import Affine, Map, Term, affine, convolve, laid_out, per_output
from harness_torch.net.nonlinearities import series_of_line, sigmoid_series, tanh_series

__all__ = ["Apply", "Layers", "layers_at_times", "make_layers"]

Arrays = Sequence[Mapping[str, Tensor]]

Apply = Callable[[Tensor], Tensor]
"""h -> A h + c of the examples [batch, ...], A and c those of each example's own time."""


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
    return _Gated(kind, shapes, arrays)


def layers_at_times(
    kind: LayerName, shapes: Sequence[LayerShape], arrays: Arrays, t: Tensor
) -> list[Apply]:
    """The layers of a block where every example has a time of its own, t [batch].

    Here the time scales the products instead of the weights, which all examples share; but for
    `hyper`, whose weights are each example's.
    """
    at_time = {"blend": _blend_at_times, "hyper": _hyper_at_times}.get(kind)
    layers: list[Apply] = []
    for shape, layer in zip(shapes, arrays, strict=True):
        times = t.view(-1, *[1] * len(shape.outputs))
        if at_time is None:
            layers.append(_gated_at_times(kind, shape, layer, times))
        else:
            layers.append(at_time(shape, layer, times))
    return layers


def _blend_at_times(shape: LayerShape, arrays: Mapping[str, Tensor], t: Tensor) -> Apply:
    start, end = (
        affine(
            laid_out(arrays[f"weight{i}"], shape.stride),
            per_output(arrays[f"bias{i}"], shape.stride),
            shape.stride,
        )
        for i in range(2)
    )
    return lambda h: torch.lerp(start.apply(h), end.apply(h), t)


def _hyper_at_times(shape: LayerShape, arrays: Mapping[str, Tensor], t: Tensor) -> Apply:
    out = torch.addcmul(arrays["hyper0_bias"], arrays["hyper0_weight"], t.view(-1, 1))
    if "hyper1_weight" in arrays:
        out = torch.addmm(arrays["hyper1_bias"], torch.tanh(out), arrays["hyper1_weight"].T)

    def one(out: Tensor, h: Tensor) -> Tensor:
        # Without the layout of a kernel in memory, which vmap does not know.
        matrix, shift = _unpacked_arrays(shape, out)
        return affine(matrix, shift, shape.stride).apply(h[None])[0]

    return lambda h: torch.vmap(one)(out, h)


def _gated_at_times(
    kind: LayerName, shape: LayerShape, arrays: Mapping[str, Tensor], t: Tensor
) -> Apply:
    weight, base, slope = _parts(kind, shape, arrays)
    layer = affine(weight, base, shape.stride)
    gate = None
    if "gate_weight" in arrays:
        gate_weight, gate_bias = (
            per_output(arrays[name], shape.stride) for name in ("gate_weight", "gate_bias")
        )
        gate = torch.sigmoid(torch.addcmul(gate_bias, gate_weight, t))

    def apply(h: Tensor) -> Tensor:
        y = layer.apply(h)
        if gate is not None:
            y = y * gate
        return y if slope is None else torch.addcmul(y, slope, t)

    return apply


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
        terms: list[list[Term]] = []
        for k in range(1, order + 1):
            layers = [
                _unpacked(shape, series[k])
                for shape, series in zip(self._shapes, by_layer, strict=True)
            ]
            terms.append([(layer, layer.shift) for layer in layers])
        return terms


def _hyper_series(arrays: Mapping[str, Tensor], t: Tensor, order: int) -> list[Tensor]:
    """Taylor coefficients of the output of a hypernet; that of order 0 is not used."""
    weight, bias = arrays["hyper0_weight"], arrays["hyper0_bias"]
    if "hyper1_weight" not in arrays:
        return [bias, weight, *[torch.zeros_like(weight)] * (order - 1)]
    hidden = series_of_line(torch.tanh, tanh_series, weight, bias, t, order)
    return [torch.mv(arrays["hyper1_weight"], y) for y in hidden]


def _unpacked(shape: LayerShape, out: Tensor) -> Affine:
    matrix, shift = _unpacked_arrays(shape, out)
    return affine(laid_out(matrix, shape.stride), shift, shape.stride)


def _unpacked_arrays(shape: LayerShape, out: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix or kernel, and the shift, that are the output of a hypernet."""
    bias, weight = out[: shape.outputs[0]], out[shape.outputs[0] :]
    kernel = () if shape.stride is None else (shape.kernel, shape.kernel)
    matrix = weight.view(shape.outputs[0], shape.inputs[0], *kernel)
    return matrix, per_output(bias, shape.stride)


class _Gated:
    """Layers A = g W, c = g base + t slope; see `harness_torch.net.layers.make_layers`."""

    def __init__(
        self, kind: LayerName, shapes: Sequence[LayerShape], arrays: Sequence[Mapping[str, Tensor]]
    ) -> None:
        parts = [_parts(kind, *layer) for layer in zip(shapes, arrays, strict=True)]
        self._strides = [shape.stride for shape in shapes]
        self._weights = [weight for weight, _, _ in parts]
        self._rows = [len(weight) for weight in self._weights]
        self._base = _Joined([base for _, base, _ in parts])
        slopes = [slope for _, _, slope in parts if slope is not None]
        self._slope = _Joined(slopes).flat if slopes else None
        self._gate: tuple[Tensor, Tensor] | None = None
        if "gate_weight" in arrays[0]:
            self._gate = (
                torch.cat([layer["gate_weight"] for layer in arrays]),
                torch.cat([layer["gate_bias"] for layer in arrays]),
            )

    def at(self, t: Tensor) -> list[Affine]:
        """The layers at the time t."""
        base, slope = self._base.flat, self._slope
        if self._gate is None:
            shift = base if slope is None else torch.addcmul(base, slope, t)
            return self._affine(self._weights, shift)
        gate = torch.sigmoid(torch.addcmul(self._gate[1], self._gate[0], t))
        shift = base * gate if slope is None else torch.addcmul(slope * t, base, gate)
        return self._affine(self._scaled(gate), shift)

    def series(self, t: Tensor, order: int) -> list[list[Term]]:
        """Their Taylor coefficients 1..order."""
        gates: list[Tensor] = []
        if self._gate is not None:
            weight, bias = self._gate
            gates = series_of_line(torch.sigmoid, sigmoid_series, weight, bias, t, order)
        terms: list[list[Term]] = []
        for k in range(1, order + 1):
            # The time enters what is not gated as it is: its coefficient of order 1 is 1.
            slope = self._slope if k == 1 else None
            if gates:
                shift = self._base.flat * gates[k]
                shift = shift if slope is None else shift + slope
                layers = self._affine(self._scaled(gates[k]), shift)
                terms.append([(layer, layer.shift) for layer in layers])
            elif slope is not None:
                terms.append([(None, shift) for shift in self._base.split(slope)])
            else:
                terms.append([(None, None)] * len(self._weights))
        return terms

    def _scaled(self, gate: Tensor) -> list[Tensor]:
        """The weights with the gates on their rows."""
        gates = torch.split(gate, self._rows)
        return [
            weight * g.view(-1, *[1] * (weight.dim() - 1))
            for weight, g in zip(self._weights, gates, strict=True)
        ]

    def _affine(self, matrices: Sequence[Tensor], shift: Tensor) -> list[Affine]:
        shifts = self._base.split(shift)
        return [affine(*layer) for layer in zip(matrices, shifts, self._strides, strict=True)]


class _Joined:
    """Tensors of all layers end to end: what depends on t alone is computed in one go, of which
    small nets profit.
    """

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._shapes = [part.shape for part in parts]
        self._sizes = [part.numel() for part in parts]
        self._flat = all(part.dim() == 1 for part in parts)
        self.flat = torch.cat([part.reshape(-1) for part in parts])

    def split(self, flat: Tensor) -> Sequence[Tensor]:
        """The parts of a vector laid out like `flat`."""
        parts: Sequence[Tensor] = torch.split(flat, self._sizes)
        if self._flat:
            return parts
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]


def _parts(
    kind: LayerName, shape: LayerShape, arrays: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """W, base and slope of a layer; base and slope in the shape of its shift."""
    weight, base = arrays["weight"], per_output(arrays["bias"], shape.stride)
    extra, width = extra_channels(kind, shape), shape.inputs[0]
    if not extra:
        slope = arrays.get("time_weight")
        weight = laid_out(weight, shape.stride)
        return weight, base, None if slope is None else per_output(slope, shape.stride)
    if extra == 1:  # a constant channel before those of h
        constant, weight = torch.split(weight, [1, width], dim=1)
    else:  # the time and two coordinates after them
        weight, constant = torch.split(weight, [width, extra], dim=1)
    if shape.stride is None:
        return weight, base, constant[:, 0]
    weight = laid_out(weight, shape.stride)
    return weight, *_maps(shape.inputs, shape.stride, constant, base)


def _maps(
    inputs: tuple[int, ...], stride: int, kernel: Tensor, base: Tensor
) -> tuple[Tensor, Tensor]:
    """What the constant channels do to the output: base with the coordinates, slope.

    Arguments:
        inputs: (channels, height, width) of the layer's input.
        stride: Of the convolution.
        kernel: Of the time, and of the row and the column if they are channels: [out, 1 or 3, k,
            k].
        base: The bias, [out, 1, 1].

    Returns:
        Two images, [out, H', W'].
    """
    height, width = inputs[1:]
    slope = convolve(kernel.new_ones(1, 1, height, width), kernel[:, :1], stride)[0]
    if kernel.shape[1] == 1:
        return base.expand(slope.shape), slope
    rows, columns = (
        torch.arange(side, dtype=kernel.dtype, device=kernel.device) for side in (height, width)
    )
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return base + convolve(places[None], kernel[:, 1:], stride)[0], slope
