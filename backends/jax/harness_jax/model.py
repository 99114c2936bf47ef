"""The model of a trial: arrays, training step, evaluation, samples."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, final

import jax
import numpy as np

from harness.architecture import initial_arrays
from harness.errors import BackendError
from harness.interface import (
    Array,
    Arrays,
    Batch,
    Control,
    DataInfo,
    EvaluationReport,
    Model,
    Pending,
    Quantity,
)
from harness.noise import needs_probe
from harness.trial import Trial
from harness_jax.arrays import BlockStack
from harness_jax.flow import Flow
from harness_jax.gradients import EngineName, get_engine
from harness_jax.optimizers import AdamState, adam_init
from harness_jax.programs import evaluate_program, train_program, transport_program
from harness_jax.reports import PendingStep, evaluation_report

__all__ = ["JaxModel"]

Program = Callable[..., Any]


@final
class JaxModel(Model):
    """A flow on one device, with its optimiser; see `harness.interface.Model`.

    Arguments:
        trial: The trial; its seed decides the initial arrays.
        data: Shape of an example.
        device: Where everything lives.
        engine: Who takes the solver's steps, see `harness_jax.gradients.get_engine`.
    """

    def __init__(
        self, trial: Trial, data: DataInfo, device: jax.Device, engine: EngineName
    ) -> None:
        self._event_shape = data.event_shape
        self._dtype = np.dtype(trial.precision)
        self._blocks = trial.model.blocks
        self._weights = dict(sorted(trial.regularizer.items()))
        self._flow = Flow(trial.model, tuple(self._weights), get_engine(engine))
        self._stack = BlockStack(trial.model, data.event_shape, self._dtype, device)
        self._arrays = self._stack.put(initial_arrays(trial, data.event_shape))
        self._adam = adam_init({k: self._arrays[k] for k in self._stack.trainable()}, device)
        self._programs: dict[Hashable, Program] = {}

    def arrays(self) -> Arrays:
        """Copies of all arrays."""
        return self._stack.get(self._arrays)

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Replaces all arrays."""
        self._arrays = self._stack.put(arrays)

    def state(self) -> Arrays:
        """Copies of the moments of Adam and its count."""
        moments = self._stack.get(self._adam.m, "adam/m/") | self._stack.get(
            self._adam.v, "adam/v/"
        )
        return moments | {"adam/count": np.asarray(self._adam.steps).astype(np.int64)}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Restores what `state` returned."""
        if "adam/count" not in state:
            raise BackendError("the optimiser state lacks adam/count")
        count = np.asarray(state["adam/count"]).astype(np.int32)
        moments = []
        for prefix in ("adam/m/", "adam/v/"):
            found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            moments.append(self._stack.put(found, trainable=True))
        self._adam = AdamState(jax.device_put(count, self._stack.device), *moments)

    def compile(self, batch: Batch, control: Control) -> None:
        """Compiles the training step for these shapes, ahead of time."""
        self._train_program(control, self._train_inputs(batch, control))

    def train_step(self, batch: Batch, control: Control) -> Pending:
        """Forward, gradient, update in one program, whose buffers are those of the arrays."""
        inputs = self._train_inputs(batch, control)
        program = self._train_program(control, inputs)
        self._arrays, self._adam, outcome = program(self._arrays, self._adam, *inputs)
        return PendingStep(outcome, tuple(self._weights), control.gradient == "adjoint")

    def evaluate(
        self, batch: Batch, control: Control, quantities: Sequence[Quantity]
    ) -> EvaluationReport:
        """Per-example quantities; `encode` alone integrates z alone, like `sample`."""
        if set(quantities) <= {"encode"}:
            return self._transport(batch.x, control, "encode", inverse=False)
        regularize = "regularizers" in quantities
        program = self._jit(
            evaluate_program, self._flow, control.solver, control.trace, regularize
        )
        x, probes = self._examples(batch.x), self._probes(batch, control, regularize)
        log_prob, terms = jax.device_get(program(self._arrays, x, probes))
        values: dict[str, Array] = {}
        if "log_prob" in quantities:
            values["log_prob"] = log_prob
        if "encode" in quantities:
            values["encode"] = self._events(terms.z)
        names = self._weights if regularize else ()
        values |= {f"regularizers/{k}": r for k, r in zip(names, terms.r, strict=True)}
        return evaluation_report(values, terms.stats)

    def sample(self, batch: Batch, control: Control) -> EvaluationReport:
        """Maps `batch.noise['base']` to data."""
        return self._transport(_noise(batch, "base"), control, "sample", inverse=True)

    def synchronize(self) -> None:
        """Waits for the arrays of the last step."""
        jax.block_until_ready((self._arrays, self._adam))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Forgets arrays and programs."""
        self._programs.clear()
        self._arrays, self._adam = {}, AdamState(self._adam.steps, {}, {})

    def _transport(
        self, start: Array, control: Control, name: str, *, inverse: bool
    ) -> EvaluationReport:
        program = self._jit(transport_program, self._flow, control.solver, inverse)
        end, stats = jax.device_get(program(self._arrays, self._examples(start)))
        return evaluation_report({name: self._events(end)}, stats)

    def _train_inputs(
        self, batch: Batch, control: Control
    ) -> tuple[Array, Array | None, np.ndarray]:
        x = self._examples(batch.x)
        lr = np.asarray(control.lr, self._dtype)
        return x, self._probes(batch, control, regularize=True), lr

    def _train_program(
        self, control: Control, inputs: tuple[Array, Array | None, np.ndarray]
    ) -> Program:
        shapes = tuple(None if v is None else (v.shape, str(v.dtype)) for v in inputs)
        key = (control.solver, control.trace, control.gradient, shapes)
        if key not in self._programs:
            step = train_program(
                self._flow,
                self._weights,
                self._stack.trainable(),
                control.solver,
                control.trace,
                control.gradient,
            )
            lowered = jax.jit(step, donate_argnums=(0, 1)).lower(self._arrays, self._adam, *inputs)
            self._programs[key] = lowered.compile()
        return self._programs[key]

    def _jit(self, make: Callable[..., Program], flow: Flow, *static: Hashable) -> Program:
        key = (make, static)
        if key not in self._programs:
            self._programs[key] = jax.jit(make(flow, *static))
        return self._programs[key]

    def _examples(self, x: Array) -> Array:
        """[size, *event_shape] -> [size, D] in the model's precision."""
        return np.ascontiguousarray(x, self._dtype).reshape(len(x), -1)

    def _events(self, z: Array) -> Array:
        """[size, D] -> [size, *event_shape]."""
        return z.reshape(len(z), *self._event_shape)

    def _probes(self, batch: Batch, control: Control, regularize: bool) -> Array | None:
        """Probes of all blocks, [blocks, size, D], or None if the call needs none."""
        if not needs_probe(control.trace, tuple(self._weights) if regularize else ()):
            return None
        probes = np.stack([_noise(batch, f"probe/{block}") for block in range(self._blocks)])
        probes = probes.reshape(self._blocks, batch.size, -1)
        return probes if probes.dtype == np.int8 else probes.astype(self._dtype)


def _noise(batch: Batch, slot: str) -> Array:
    if slot not in batch.noise:
        raise BackendError(f"the batch has no noise '{slot}', but this call needs it")
    return batch.noise[slot]
