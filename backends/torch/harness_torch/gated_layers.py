"""All kinds of layers but `blend` and `hyper`, as functions of the time (harness.layer_arrays).

Their A and c are made of parts that are at most linear in t, and of gates:
    A = g W,  c = g base + t slope,  g = sigmoid(gate_weight t + gate_bias), or 1.
A gate scales the rows of W rather than those of W h: the same number, but it touches [out, in]
entries once instead of [batch, out] entries for the value and every tangent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from harness.layer_arrays import extra_channels
from harness.stages import LayerShape
from harness.trial import LayerName
from harness_torch.affine import Affine, Term, affine, convolve, laid_out, per_output
from harness_torch.nonlinearities import series_of_line, sigmoid_series

__all__ = ["GatedLayers"]


class GatedLayers:
    """A = g W, c = g base + t slope; see `harness_torch.layers.make_layers`."""

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
        found: list[list[Term]] = []
        for k in range(1, order + 1):
            # The time enters what is not gated as it is: its coefficient of order 1 is 1.
            slope = self._slope if k == 1 else None
            if gates:
                shift = self._base.flat * gates[k]
                shift = shift if slope is None else shift + slope
                layers = self._affine(self._scaled(gates[k]), shift)
                found.append([(layer, layer.shift) for layer in layers])
            elif slope is not None:
                found.append([(None, shift) for shift in self._base.split(slope)])
            else:
                found.append([(None, None)] * len(self._weights))
        return found

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
    """Tensors of all layers end to end: what depends on t alone is computed in one go, which saves
    a tenth of the training step of small nets.
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
