"""The dynamics of a block in plain numpy, without automatic differentiation: what the kit expects.

Slow and literal, after harness.architecture.layers and docs/numerics.md. Derivatives are imaginary
parts: for an analytic g, Im g(x + i h v) / h with h = 1e-30 is the directional derivative to the
last digit, with no cancellation and no code shared with any backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.architecture.transforms import Block, LayerShape
from harness.trial import ModelSpec, TraceName

__all__ = ["Change", "Field", "Float", "Number", "convolve", "derivative", "dot"]

Float = npt.NDArray[np.float64]
Number = npt.NDArray[Any]
"""float64 or complex128."""

Change = Callable[[int, Number, Number, Number], Number]
"""Index of a layer, time, input and output to the output that the examples make of it."""

_H = 1e-30


def derivative(function: Callable[[Any], Number], at: Any, along: Any) -> Float:  # noqa: ANN401
    """The directional derivative of an analytic function."""
    return np.asarray(function(at + 1j * _H * along).imag / _H)


def dot(a: Float, b: Float) -> Float:
    """Inner products of the examples; [batch, ...] and [batch, ...] to [batch]."""
    return np.asarray((a * b).reshape(len(a), -1).sum(axis=1))


def _where_positive(x: Number, positive: Number, other: Number) -> Number:
    return np.where(x.real > 0, positive, other)


def _sigmoid(x: Number) -> Number:
    return 1 / (1 + np.exp(-x))


def _elu(x: Number) -> Number:
    return _where_positive(x, x, np.expm1(np.where(x.real > 0, 0, x)))


def _softplus(x: Number) -> Number:
    small = np.log1p(np.exp(np.where(x.real > 0, -x, x)))
    return _where_positive(x, x + small, small)


_NONLINEARITIES: Mapping[str, Callable[[Number], Number]] = {
    "elu": _elu,
    "identity": lambda x: x,
    "relu": lambda x: _where_positive(x, x, 0 * x),
    "softplus": _softplus,
    "square": lambda x: x * x,
    "tanh": np.tanh,
}


def convolve(
    h: Number, weight: Number, stride: int, padding: int, transposed: bool = False, more: int = 0
) -> Number:
    """A convolution by the offsets of its kernel: each moves the image and mixes its channels.

    Arguments:
        h: Images, [batch, in, height, width].
        weight: [out, in, *kernel], of a transposed convolution too.
        stride: Along both axes.
        padding: Zeros on each side, of a transposed one rows and columns that are cut off.
        transposed: The transpose of a convolution.
        more: Rows and columns that a transposed one keeps at its end.
    """
    kernel, (rows, columns) = weight.shape[2:], h.shape[2:]
    if transposed:
        sides = [(n - 1) * stride + k + more for n, k in zip(h.shape[2:], kernel, strict=True)]
    else:
        h = np.pad(h, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        sides = [(n - k) // stride + 1 for n, k in zip(h.shape[2:], kernel, strict=True)]
        rows, columns = sides
    out = np.zeros((len(h), len(weight), *sides), np.result_type(h, weight))
    for i, j in np.ndindex(*kernel):
        place = np.s_[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
        mix = weight[..., i, j]
        if transposed:
            out[place] += np.einsum("bcyx,oc->boyx", h, mix)
        else:
            out += np.einsum("bcyx,oc->boyx", h[place], mix)
    if transposed:
        out = out[:, :, padding : sides[0] - padding, padding : sides[1] - padding]
    return out


def _product(h: Number, weight: Number, stride: int | None) -> Number:
    """A matrix [out, in], or a kernel [out, in, k, k] with padding 1, times h."""
    if stride is None:
        return h @ weight.T
    return convolve(h, weight, abs(stride), 1, transposed=stride < 0)


def _with_channels(h: Number, t: Number, *, coordinates: bool) -> Number:
    """The constant channel of the time first; or time, row and column last."""
    time = np.full_like(h[:, :1], t)
    if not coordinates:
        return np.concatenate([time, h], axis=1)
    row, column = np.meshgrid(*(np.arange(side) for side in h.shape[2:]), indexing="ij")
    planes = [time, np.broadcast_to(row, time.shape), np.broadcast_to(column, time.shape)]
    return np.concatenate([h, *planes], axis=1)


def _layer(kind: str, shape: LayerShape, w: Mapping[str, Number], t: Number, h: Number) -> Number:
    """One layer at the time t, by the table of harness.architecture.layers."""

    def channel(vector: Number) -> Number:
        return vector if shape.stride is None else vector[:, None, None]

    if kind == "hyper":
        out = w["hyper0_weight"] * t + w["hyper0_bias"]
        if "hyper1_weight" in w:
            out = w["hyper1_weight"] @ np.tanh(out) + w["hyper1_bias"]
        bias, weights = out[: shape.outputs[0]], out[shape.outputs[0] :]
        sides = () if shape.stride is None else (shape.kernel, shape.kernel)
        kernel = weights.reshape(shape.outputs[0], shape.inputs[0], *sides)
        return _product(h, kernel, shape.stride) + channel(bias)
    if kind == "blend":
        ends = [
            _product(h, w[f"weight{i}"], shape.stride) + channel(w[f"bias{i}"]) for i in range(2)
        ]
        return np.asarray((1 - t) * ends[0] + t * ends[1])
    if kind in ("concat", "concatcoord"):
        coordinates = kind == "concatcoord" and shape.stride is not None
        h = _with_channels(h, t, coordinates=coordinates)
    out = _product(h, w["weight"], shape.stride) + channel(w["bias"])
    if kind in ("squash", "concatsquash"):
        out = out * channel(_sigmoid(w["gate_weight"] * t + w["gate_bias"]))
    if kind in ("concat_v2", "concatsquash"):
        out = out + channel(w["time_weight"] * t)
    return out


@dataclass(frozen=True)
class Field:
    """dz/dt of one block and what is derived from it.

    Arguments:
        model: Its architecture.
        block: Its shapes.
        arrays: Its arrays by name without the block, after spectral norm; `swish_beta` too.
        trace: How the divergence is computed.
        probe: Random directions, [batch, *shape], or several, [batch, probes, *shape], over which
            an estimated trace is averaged; None if nothing needs them.
        change: What the examples of an autoencoder make of its layers.
        draws: Times of a solve at which there are other probes; their axis follows that of the
            batch.
        end: The end time, in which `draws` are counted.
        bases: Of `hutch++`, the bases of its evaluations so far or, if `given`, to come.
        given: See `bases`.
    """

    model: ModelSpec
    block: Block
    arrays: Mapping[str, Float]
    trace: TraceName
    probe: Float | None
    change: Change | None = None
    draws: int = 1
    end: float = 1.0
    bases: list[Float] = field(default_factory=list)
    given: bool = False

    def net(self, t: Any, h: Number, start: int = 0, stop: int | None = None) -> Number:  # noqa: ANN401
        """Layers start..stop of the net; the nonlinearity follows all but the last of them
        all, and that, too, where the posterior says so.
        """
        h = np.asarray(h, complex)
        layers = self.block.layers
        for index in range(start, len(layers) if stop is None else stop):
            prefix = f"layer{index}/"
            own = {
                name.removeprefix(prefix): value
                for name, value in self.arrays.items()
                if name.startswith(prefix)
            }
            time, before = np.asarray(t), h
            shared = np.zeros((len(h), *layers[index].outputs), complex)
            h = _layer(self.model.layer, layers[index], own, time, h) if own else shared
            if self.change is not None:
                h = self.change(index, time, before, h)
            if index < len(layers) - 1 or self._nonlinear_output:
                h = self._nonlinearity(h)
        return h

    @property
    def _nonlinear_output(self) -> bool:
        posterior = self.model.posterior
        return posterior is not None and posterior.nonlinear_output

    def _nonlinearity(self, x: Number) -> Number:
        if self.model.nonlinearity == "swish":
            return x * _sigmoid(self.arrays["swish_beta"] * x)
        return _NONLINEARITIES[self.model.nonlinearity](x)

    def f(self, t: Any, z: Number) -> Number:  # noqa: ANN401
        """dz/dt, [batch, *shape]."""
        out = self.net(t, z)
        return out - z if self.model.residual else out

    def jvp(self, t: float, z: Float, v: Float) -> Float:
        """J v for each example."""
        return derivative(lambda at: self.f(t, at), z, v)

    def jacobian(self, t: float, z: Float) -> Float:
        """J, [batch, D, D], by one derivative a dimension."""
        size = z[0].size
        columns = [
            self.jvp(t, z, np.broadcast_to(unit.reshape(z.shape[1:]), z.shape))
            for unit in np.eye(size)
        ]
        return np.stack([column.reshape(len(z), size) for column in columns], axis=-1)

    def divergence(self, t: float, z: Float) -> Float:
        """The trace of J as the trial asks for it, [batch]."""
        if self.trace == "exact":
            return np.asarray(np.trace(self.jacobian(t, z), axis1=1, axis2=2))
        assert self.probe is not None
        eps = self.probe.astype(np.float64)
        if self.draws > 1:
            golden = (math.sqrt(5) - 1) / 2
            eps = eps[:, math.floor(t / self.end * (self.draws - 1) + golden)]
        if self.trace == "hutch++":
            lost = z[0].size if self.model.residual else 0
            return self._hutch_plus_plus(t, z, eps) - lost
        if eps.ndim == z.ndim:
            return self._estimate(t, z, eps)
        return np.asarray(np.mean([self._estimate(t, z, e) for e in np.moveaxis(eps, 1, 0)], 0))

    def _hutch_plus_plus(self, t: float, z: Float, eps: Float) -> Float:
        """The trace of the Jacobian of the net, [batch], by its columns."""
        size, half = z[0].size, eps.shape[1] // 2
        units = np.eye(size).reshape(size, *z.shape[1:])
        along = [np.broadcast_to(unit, z.shape) for unit in units]
        columns = [derivative(lambda at: self.net(t, at), z, v) for v in along]
        J = np.stack([column.reshape(len(z), size) for column in columns], axis=-1)
        vectors = eps.reshape(len(z), 2 * half, size)
        if self.given:
            basis = self.bases.pop(0)
        else:
            # A factorization of another kind than a backend's: the space is the same.
            left, singular, _ = np.linalg.svd(J @ vectors[:, :half].mT, full_matrices=False)
            basis = np.where(singular[:, None] > 1e-8 * singular[:, None, :1], left, 0.0)
            self.bases.append(basis)
        rest = np.eye(size) - basis @ basis.mT
        within = np.trace(basis.mT @ J @ basis, axis1=1, axis2=2)
        beside = np.einsum("bkd,bde,bke->b", vectors[:, half:] @ rest, J, vectors[:, half:] @ rest)
        return np.asarray(within + beside / half)

    def _estimate(self, t: float, z: Float, eps: Float) -> Float:
        """The trace by one probe, [batch]."""
        lost = z[0].size if self.model.residual else 0
        if self.trace == "hutchinson":
            return dot(eps, derivative(lambda at: self.net(t, at), z, eps)) - lost
        narrow = self.block.bottleneck
        h = self.net(t, z, stop=narrow).real
        out = derivative(lambda at: self.net(t, at, start=narrow), h, eps)
        back = derivative(lambda at: self.net(t, at, stop=narrow), z, out)
        return dot(eps, back) - lost
