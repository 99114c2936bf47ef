"""What a model is made of, framework-free: names, shapes, kinds and initial values of all arrays.

Both backends build from this, from `harness.architecture.transforms` and
`harness.architecture.noise`, and from nothing else. Names: `block<i>/layer<j>/<array>`
(harness.architecture.layers), `block<i>/sqrt_end_time`, `norm<i>/<array>`, `swish_beta`, one for
all layers of all blocks, as released, and `encoder/...` and `decoder/...` of an autoencoder
(harness.architecture.autoencoder).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from harness.architecture.autoencoder import autoencoder_arrays
from harness.architecture.layers import ArraySpec, layer_arrays
from harness.architecture.transforms import Block, Norm, blocks_of, transforms
from harness.interface import DataInfo
from harness.streams.stream import Stream
from harness.trial import ModelSpec, Trial

__all__ = ["SPECTRAL", "array_specs", "initial_arrays", "parameter_count"]

SPECTRAL = ("weight", "weight0", "weight1", "gate_weight", "time_weight")
"""Last parts of the names of arrays that spectral norm divides by their largest singular value, as
matrices [out, everything else]. That of a vector is its norm; the matrices have buffers `<name>_u`
[out] and `<name>_v`, unit vectors of a power iteration that turns once a training step."""


def array_specs(model: ModelSpec, data: DataInfo) -> list[ArraySpec]:
    """Returns all arrays of a model.

    Arguments:
        model: The architecture.
        data: Shape and likelihood of its examples.

    Raises:
        BackendError: The model does not fit data of this shape.
    """
    specs = list(autoencoder_arrays(model, blocks_of(model, data.event_shape), data))
    for transform in transforms(model, data.event_shape):
        if isinstance(transform, Block):
            specs += _block(model, transform)
        elif isinstance(transform, Norm):
            specs += _norm(transform)
    if model.nonlinearity == "swish":
        specs.append(ArraySpec("swish_beta", (), value=1.0))
    return specs


def _block(model: ModelSpec, block: Block) -> Iterator[ArraySpec]:
    last = len(block.layers) - 1
    # Each example brings its own.
    layers = () if model.posterior and model.posterior.amortization == "hyper" else block.layers
    for index, shape in enumerate(layers):
        for spec in layer_arrays(model.layer, shape, f"block{block.index}/layer{index}"):
            yield ArraySpec(spec.name, spec.shape) if model.zero_last and index == last else spec
            kind = spec.name.rpartition("/")[2]
            if model.spectral_norm and kind in SPECTRAL and len(spec.shape) > 1:
                sides = spec.shape[0], math.prod(spec.shape[1:])
                for vector, side in zip("uv", sides, strict=True):
                    name = f"{spec.name}_{vector}"
                    yield ArraySpec(name, (side,), trainable=False, counted=False, unit=True)
    mode = model.end_time.mode
    yield ArraySpec(
        f"block{block.index}/sqrt_end_time",
        (),
        trainable=mode == "trained",
        counted=mode != "fixed",
        value=math.sqrt(model.end_time.value),
    )


def _norm(norm: Norm) -> Iterator[ArraySpec]:
    """Logarithm of the scale, shift; what the moving batch norm keeps (FFJORD's released code)."""
    prefix, features = f"norm{norm.index}", norm.shape[:1]
    yield ArraySpec(f"{prefix}/log_scale", features)
    yield ArraySpec(f"{prefix}/shift", features)
    for name, shape, value in (
        ("running_mean", features, 0.0),
        ("running_var", features, 1.0),
        ("steps", (), 0.0),
    ):
        yield ArraySpec(f"{prefix}/{name}", shape, trainable=False, counted=False, value=value)


def parameter_count(model: ModelSpec, data: DataInfo) -> int:
    """Number of parameters as papers count them: all trainable arrays and inert end times."""
    return sum(math.prod(spec.shape) for spec in array_specs(model, data) if spec.counted)


def initial_arrays(trial: Trial, data: DataInfo) -> dict[str, np.ndarray]:
    """Initial value of every array, in the trial's precision; a function of the seed alone."""
    return {
        spec.name: _initial(spec, trial.seed).astype(trial.dtype)
        for spec in array_specs(trial.model, data)
    }


def _initial(spec: ArraySpec, seed: int) -> np.ndarray:
    stream = Stream(seed, f"init/{spec.name}")
    if spec.bound is not None:
        return spec.bound * (2 * stream.uniform(spec.shape) - 1)
    if spec.std is not None:
        return spec.std * stream.normal(spec.shape)
    if spec.unit:
        vector = stream.normal(spec.shape)
        # A sum of squares in one fixed order: numpy's own may differ between machines.
        return vector / math.sqrt(math.fsum(vector * vector))
    return np.full(spec.shape, spec.value)
