"""What a model is made of, framework-free: names, shapes, kinds and initial values of all arrays,
and the random arrays a call needs. Both backends build from this and from nothing else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.streams import Stream
from harness.trial import ModelSpec, TraceName, Trial

__all__ = [
    "ArraySpec",
    "NoiseSlot",
    "array_specs",
    "draw",
    "initial_arrays",
    "layer_widths",
    "needs_probe",
    "noise_slots",
    "parameter_count",
]

Law = Literal["zeros", "uniform", "value"]


@dataclass(frozen=True)
class ArraySpec:
    """One named array of a model.

    Arguments:
        name: Portable name, e.g. `block0/layer1/weight`; the name in checkpoints.
        shape: Shape; a weight is [out, in].
        trainable: False for a buffer. Counted as a parameter either way if `counted`.
        counted: Part of the parameter count that papers print.
        bound: Initial values are uniform on (-bound, bound); None means the constant `value`.
        value: Initial constant where `bound` is None.
    """

    name: str
    shape: tuple[int, ...]
    trainable: bool = True
    counted: bool = True
    bound: float | None = None
    value: float = 0.0


def layer_widths(model: ModelSpec, event_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns (in, out) of each layer of a block's dynamics; the outer widths are the data's."""
    width = math.prod(event_shape)
    widths = [width, *model.hidden, width]
    return list(itertools.pairwise(widths))


def _layer(model: ModelSpec, prefix: str, width_in: int, width_out: int) -> Iterator[ArraySpec]:
    """Arrays of one layer. Initial values follow PyTorch's nn.Linear, as the released code does:
    uniform within 1/sqrt(fan_in) for weights and biases alike.
    """
    if model.layer == "concat":
        # W [t, h] + b: column 0 of the weight belongs to t.
        bound = 1 / math.sqrt(width_in + 1)
        yield ArraySpec(f"{prefix}/weight", (width_out, width_in + 1), bound=bound)
        yield ArraySpec(f"{prefix}/bias", (width_out,), bound=bound)
    else:
        # concatsquash: (W h + b) * sigmoid(gate_weight t + gate_bias) + time_weight t; the gate
        # and the time bias are linear maps of one input, the time, so their fan-in is 1.
        bound = 1 / math.sqrt(width_in)
        yield ArraySpec(f"{prefix}/weight", (width_out, width_in), bound=bound)
        yield ArraySpec(f"{prefix}/bias", (width_out,), bound=bound)
        yield ArraySpec(f"{prefix}/gate_weight", (width_out,), bound=1.0)
        yield ArraySpec(f"{prefix}/gate_bias", (width_out,), bound=1.0)
        yield ArraySpec(f"{prefix}/time_weight", (width_out,), bound=1.0)


def array_specs(model: ModelSpec, event_shape: tuple[int, ...]) -> list[ArraySpec]:
    """Returns all arrays of a model, in the order of computation."""
    specs: list[ArraySpec] = []
    for block in range(model.blocks):
        for layer, (width_in, width_out) in enumerate(layer_widths(model, event_shape)):
            specs += _layer(model, f"block{block}/layer{layer}", width_in, width_out)
        mode = model.end_time.mode
        specs.append(
            ArraySpec(
                f"block{block}/sqrt_end_time",
                (),
                trainable=mode == "trained",
                counted=mode != "fixed",
                value=math.sqrt(model.end_time.value),
            )
        )
    return specs


def parameter_count(model: ModelSpec, event_shape: tuple[int, ...]) -> int:
    """Number of parameters as papers count them: all trainable arrays and inert end times."""
    return sum(math.prod(s.shape) for s in array_specs(model, event_shape) if s.counted)


def initial_arrays(trial: Trial, event_shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Initial value of every array, in the trial's precision; a function of the seed alone."""
    arrays = {}
    for spec in array_specs(trial.model, event_shape):
        if spec.bound is None:
            value = np.full(spec.shape, spec.value)
        else:
            uniform = Stream(trial.seed, f"init/{spec.name}").uniform(spec.shape)
            value = spec.bound * (2 * uniform - 1)
        arrays[spec.name] = value.astype(trial.precision)
    return arrays


@dataclass(frozen=True)
class NoiseSlot:
    """Shape and law of a random array that a call needs."""

    shape: tuple[int, ...]
    law: Literal["gaussian", "rademacher"]


def needs_probe(trace: TraceName, regularizer: Collection[str]) -> bool:
    """True if the dynamics use a random probe: for the trace or for the Jacobian penalty."""
    return trace == "hutchinson" or "rnode.jacobian" in regularizer


def noise_slots(
    trial: Trial,
    event_shape: tuple[int, ...],
    purpose: Literal["train", "evaluate", "sample"],
    size: int,
) -> dict[str, NoiseSlot]:
    """Returns the slots a call on `size` examples must find in `Batch.noise`.

    `probe/<block>` has one probe per example, drawn anew for each solve and fixed within it;
    `base` is the base sample that `Model.sample` maps to data.
    """
    shape = (size, *event_shape)
    if purpose == "sample":
        return {"base": NoiseSlot(shape, "gaussian")}
    trace = trial.training.trace if purpose == "train" else trial.evaluation.trace
    # Regularizers are integrated in training only, unless an evaluation asks for them.
    if not needs_probe(trace, tuple(trial.regularizer) if purpose == "train" else ()):
        return {}
    law = trial.training.probe
    return {f"probe/{block}": NoiseSlot(shape, law) for block in range(trial.model.blocks)}


def draw(
    slots: Mapping[str, NoiseSlot], seed: int, step: int, precision: str, prefix: str = ""
) -> dict[str, np.ndarray]:
    """Draws every slot from its own stream `<prefix><slot>`; Rademacher probes stay int8."""
    noise = {}
    for name, slot in slots.items():
        stream = Stream(seed, prefix + name, step)
        if slot.law == "rademacher":
            noise[name] = stream.rademacher(slot.shape)
        else:
            noise[name] = stream.normal(slot.shape).astype(precision)
    return noise
