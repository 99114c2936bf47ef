"""The model of a trial: arrays, training step, evaluation, samples."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, final

import jax
import numpy as np

from harness.architecture.arrays import initial_arrays
from harness.architecture.transforms import blocks_of
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
from harness.trial import EngineName, FlowMatching, TraceName, Trial
from harness_jax.arrays import Stack
from harness_jax.autoencoder import Autoencoder
from harness_jax.flow import Flow
from harness_jax.matching import Matching
from harness_jax.noise import drawn, noise_of, points_of
from harness_jax.objective import Density, Elbo, Objective
from harness_jax.optimizers import Moments, initial_moments
from harness_jax.precision import PrecisionCheck
from harness_jax.programs import (
    compiled_anew,
    compiler_options,
    evaluate_program,
    sample_program,
    train_program,
)
from harness_jax.reports import PendingStep, evaluation_report
from harness_jax.solve.engines import How, get_engine
from harness_jax.warm import WarmSteps

__all__ = ["JaxModel"]

Program = Callable[..., Any]
Inputs = tuple[Array, Arrays, np.ndarray, np.ndarray]


@final
class JaxModel(Model):
    """A flow on one device, with its optimiser; see `harness.interface.Model`.

    Arguments:
        trial: The trial; its seed decides the initial arrays.
        data: Shape of an example.
        device: Where everything lives.
        engine: Who takes the solver's steps, see `harness_jax.solve.engines.get_engine`.
    """

    def __init__(
        self, trial: Trial, data: DataInfo, device: jax.Device, engine: EngineName
    ) -> None:
        self._dtype: np.dtype[np.floating] = np.dtype(trial.dtype)
        self._optimizer = trial.training.optimizer
        self._engine = get_engine(engine)
        weights = dict(sorted(trial.regularizer.items()))
        self._flow = Flow(trial.model, data.event_shape, weights)
        density = Density(self._flow, data.event_shape)
        self._matching = isinstance(trial.objective, FlowMatching)
        self._objective: Objective = Matching(density) if self._matching else density
        if trial.model.posterior is not None:
            nets = Autoencoder(trial.model, blocks_of(trial.model, data.event_shape), data)
            self._objective = Elbo(self._flow, nets)
        self._stack = Stack(trial.model, data, self._dtype, device)
        self._arrays = self._stack.put(initial_arrays(trial, data))
        trained = {name: self._arrays[name] for name in self._stack.trainable}
        self._moments = initial_moments(trained, device)
        self._warm_steps = WarmSteps(trial, self._flow.blocks, device)
        self._warm = self._warm_steps.initial()
        self._precision = PrecisionCheck(trial.precision)
        convolutions = trial.model.strides is not None
        options = compiler_options(device.platform, convolutions=convolutions)
        self._options = dict(options)
        self._programs: dict[Hashable, Program] = {}

    def arrays(self) -> Arrays:
        """Copies of all arrays."""
        return self._stack.get(self._arrays)

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Replaces all arrays."""
        self._arrays = self._stack.put(arrays)

    def state(self) -> Arrays:
        """Copies of the moments of the optimiser, its count, and the warm first steps."""
        moments = self._stack.get(self._moments.m, "adam/m/")
        moments |= self._stack.get(self._moments.v, "adam/v/")
        count = np.asarray(self._moments.steps).astype(np.int64)
        return moments | {"adam/count": count} | self._warm_steps.state(self._warm)

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Restores what `state` returned."""
        if "adam/count" not in state:
            raise BackendError("the optimiser state lacks adam/count")
        count = np.asarray(state["adam/count"]).astype(np.int32)
        moments = []
        for prefix in ("adam/m/", "adam/v/"):
            moment = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            moments.append(self._stack.put(moment, trainable=True))
        self._warm = self._warm_steps.load_state(state)
        self._moments = Moments(jax.device_put(count, self._stack.device), *moments)

    def compile(self, batch: Batch, control: Control) -> None:
        """Compiles the training step for these shapes, ahead of time."""
        self._train_program(control, self._train_inputs(batch, control))

    def train_step(self, batch: Batch, control: Control) -> Pending:
        """Forward, gradient, update in one program, whose buffers are those of the arrays."""
        inputs = self._train_inputs(batch, control)
        program = self._train_program(control, inputs)
        self._arrays, self._moments, self._warm, outcome = program(
            self._arrays, self._moments, self._warm, *inputs
        )
        self._precision.of_state(outcome.mean)
        if self._matching:
            return PendingStep(outcome, self._flow.penalties, "direct", likelihood=False)
        return PendingStep(outcome, self._flow.penalties, control.gradient)

    def evaluate(
        self, batch: Batch, control: Control, quantities: Sequence[Quantity]
    ) -> EvaluationReport:
        """Per-example quantities; what needs no density is integrated without it."""
        regularize = "regularizers" in quantities
        trace = None if set(quantities) <= {"encode", "reconstruct"} else control.trace
        program = self._jit(evaluate_program, self._how(control), trace, control.draws, regularize)
        noise = self._noise(batch, trace, control, regularize=regularize)
        evaluated, terms = program(self._arrays, self._floats(batch.x), noise)
        self._precision.of_state(terms.z)
        wanted = {n: v for n, v in evaluated.items() if n.partition("/")[0] in quantities}
        values, terms = jax.device_get((wanted, terms))
        values |= {f"regularizers/{name}": r for name, r in terms.penalties.items()}
        return evaluation_report(values, terms.stats)

    def sample(self, batch: Batch, control: Control, *, density: bool = False) -> EvaluationReport:
        """Maps `batch.noise['base']` to data."""
        base = self._floats(drawn(batch, "base"))
        base = base.reshape(len(base), -1)
        trace = control.trace if density else None
        noise = self._noise(batch, trace, control) if density else {}
        program = self._jit(sample_program, self._how(control), trace, control.draws)
        values, stats = program(self._arrays, base, noise)
        self._precision.of_state(values["sample"])
        values, stats = jax.device_get((values, stats))
        return evaluation_report(values, stats, self._flow.blocks)

    def synchronize(self) -> None:
        """Waits for the arrays of the last step."""
        jax.block_until_ready((self._arrays, self._moments))  # type: ignore[no-untyped-call]

    def compiled_anew(self) -> int | None:
        """Programs that the compilation cache did not have; None without a cache."""
        return compiled_anew()

    def peak_device_bytes(self) -> int | None:
        """Largest memory that arrays had on the GPU, as the allocator counts."""
        device = self._stack.device
        if device.platform == "cpu":
            return None
        found: int | None = (device.memory_stats() or {}).get("peak_bytes_in_use")
        return found

    def close(self) -> None:
        """Forgets arrays and programs."""
        self._programs.clear()
        self._arrays, self._moments = {}, Moments(self._moments.steps, {}, {})

    def _how(self, control: Control, *, training: bool = False) -> How:
        engine = get_engine(control.engine) if control.engine else self._engine
        return How(engine, control.solver, control.gradient if training else None)

    def _train_inputs(self, batch: Batch, control: Control) -> Inputs:
        if self._matching:
            noise = points_of(self._flow, batch, self._dtype)
        else:
            trace = control.trace
            noise = self._noise(batch, trace, control, training=True, regularize=True)
        lr, kl_weight = (np.asarray(v, self._dtype) for v in (control.lr, control.kl_weight))
        return self._floats(batch.x), noise, lr, kl_weight

    def _noise(
        self,
        batch: Batch,
        trace: TraceName | None,
        control: Control,
        *,
        training: bool = False,
        regularize: bool = False,
    ) -> Arrays:
        return noise_of(
            self._flow,
            batch,
            trace,
            self._dtype,
            training=training,
            regularize=regularize,
            probes=control.probes,
            draws=control.draws,
        )

    def _train_program(self, control: Control, inputs: Inputs) -> Program:
        shapes = tuple((v.shape, str(v.dtype)) for v in jax.tree.leaves(inputs))
        how = control.solver, control.gradient, control.engine
        key = (*how, control.trace, control.draws, shapes)
        if key not in self._programs:
            step = train_program(
                self._objective,
                self._stack.trainable,
                self._optimizer,
                self._how(control, training=True),
                control.trace,
                control.draws,
            )
            kept = self._arrays, self._moments, self._warm
            jitted = jax.jit(step, donate_argnums=(0, 1, 2), compiler_options=self._options)
            self._programs[key] = jitted.lower(*kept, *inputs).compile()
        return self._programs[key]

    def _jit(self, make: Callable[..., Program], *static: Hashable) -> Program:
        key = (make, static)
        if key not in self._programs:
            program = make(self._objective, *static)
            self._programs[key] = jax.jit(program, compiler_options=self._options)
        return self._programs[key]

    def _floats(self, x: Array) -> Array:
        """The same numbers in the model's precision."""
        return np.ascontiguousarray(x, self._dtype)
