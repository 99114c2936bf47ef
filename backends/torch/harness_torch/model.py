"""The model of a trial: arrays, training step, evaluation, samples."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from harness.architecture.arrays import array_specs, initial_arrays
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
from harness.trial import FlowMatching, RegularizerName, Trial
from harness_torch.autoencoder import Autoencoder
from harness_torch.flow import Flow, Terms
from harness_torch.matching import Matching
from harness_torch.noise import Noise, noise_of
from harness_torch.objective import Density, Elbo, Objective, Options
from harness_torch.optimizers import Adam
from harness_torch.precision import PrecisionCheck
from harness_torch.reports import PendingStep, evaluation_report, to_numpy
from harness_torch.solve.engines import Engine, How, get_engine
from harness_torch.solve.native_engine import Native
from harness_torch.warm import WarmSteps

__all__ = ["TorchModel"]

DEVICES = {"cpu": "cpu", "gpu": "cuda"}


class _Loss(NamedTuple):
    """The loss of a training step, on the device.

    Arguments:
        total: The mean of the rows plus the weighted regularizers.
        mean: Mean of what the objective lowers; of a likelihood the nll.
        means: Unweighted batch means of the regularizers, by name.
        terms: The end of the flow.
    """

    total: Tensor
    mean: Tensor
    means: dict[RegularizerName, Tensor]
    terms: Terms


@final
class TorchModel(Model):
    """A flow on one device, with its optimiser; see `harness.interface.Model`.

    Arguments:
        trial: The trial; its seed decides the initial arrays.
        data: Shape of an example.
        device: `cpu` or `gpu`.
        engine: Who takes the steps of its solves.
    """

    def __init__(
        self, trial: Trial, data: DataInfo, device: str, engine: Engine | None = None
    ) -> None:
        self._engine = engine or Native()
        self._dtype: torch.dtype = getattr(torch, trial.dtype)
        self._device = torch.device(DEVICES[device])
        self._precision = PrecisionCheck(trial.precision)
        self._weights = dict(sorted(trial.regularizer.items()))
        self._arrays: dict[str, Tensor] = {
            name: self._tensor(value) for name, value in initial_arrays(trial, data).items()
        }
        trained = {}
        for spec in array_specs(trial.model, data):
            if spec.trainable:
                trained[spec.name] = self._arrays[spec.name].requires_grad_()
        self._optimizer = Adam(trained, trial.training.optimizer)
        self._flow = Flow(trial.model, data.event_shape, self._arrays, self._weights)
        density = Density(self._flow, data.event_shape)
        self._matching = isinstance(trial.objective, FlowMatching)
        self._objective: Objective = Matching(density) if self._matching else density
        if trial.model.posterior is not None:
            nets = Autoencoder(trial.model, blocks_of(trial.model, data.event_shape), data)
            self._objective = Elbo(self._flow, nets, self._arrays)
        self._warm = WarmSteps(trial, self._flow.blocks)

    def arrays(self) -> Arrays:
        """Copies of all arrays."""
        return {name: to_numpy(array) for name, array in self._arrays.items()}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Replaces all arrays in place."""
        if arrays.keys() != self._arrays.keys():
            wrong = sorted(arrays.keys() ^ self._arrays.keys())
            raise BackendError(f"arrays of another model: {', '.join(wrong)} do not match")
        for name, array in self._arrays.items():
            if arrays[name].shape != array.shape:
                raise BackendError(
                    f"array '{name}' has shape {arrays[name].shape}, expected {tuple(array.shape)}"
                )
        with torch.no_grad():
            for name, array in self._arrays.items():
                array.copy_(self._tensor(arrays[name]))

    def state(self) -> Arrays:
        """Copies of the moments of the optimiser, its count, and the warm first steps."""
        return self._optimizer.state() | self._warm.state()

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Restores what `state` returned."""
        self._optimizer.load_state(state)
        self._warm.load_state(state)

    def compile(self, batch: Batch, control: Control) -> None:
        """Takes the gradient of one step and forgets it, where anything is compiled."""
        if not self._engine.compiles:
            return
        loss = self._loss(batch, control)
        if loss.terms.failure is None:
            loss.total.backward()  # type: ignore[no-untyped-call]
        for array in self._arrays.values():
            array.grad = None

    def train_step(self, batch: Batch, control: Control) -> Pending:
        """Forward, gradient, update; a solve that fails updates nothing."""
        loss = self._loss(batch, control)
        terms = loss.terms
        if terms.failure is None:
            loss.total.backward()  # type: ignore[no-untyped-call]
            # The adjoint solve runs within backward() and may fail there.
            if terms.failure is None:
                self._optimizer.step(control.lr)
                self._warm.record(terms.counts)
                for buffer, value in terms.buffers.items():
                    self._arrays[buffer].copy_(value)
        self._precision.of_state(terms.z)
        values = torch.stack([x.detach() for x in (loss.total, loss.mean, *loss.means.values())])
        names, counts = tuple(loss.means), terms.counts
        if self._matching:
            return PendingStep(values, names, counts, "direct", likelihood=False)
        return PendingStep(values, names, counts, control.gradient)

    def _loss(self, batch: Batch, control: Control) -> _Loss:
        how, first = self._how(control, training=True), self._warm.steps()
        options = Options(
            control.trace,
            how,
            first,
            control.draws,
            training=True,
            regularize=True,
            log_volume=self._log_volume(batch),
        )
        x, noise = self._inputs(batch, control)
        rows, terms = self._objective.loss(x, noise, options, control.kl_weight)
        loss = mean = rows.mean()
        means = {name: penalty.mean() for name, penalty in terms.penalties.items()}
        for name, penalty in means.items():
            loss = loss + self._weights[name] * penalty
        return _Loss(loss, mean, means, terms)

    @torch.no_grad()
    def evaluate(
        self, batch: Batch, control: Control, quantities: Sequence[Quantity]
    ) -> EvaluationReport:
        """Per-example quantities; what needs no density is integrated without it."""
        how, regularize = self._how(control), "regularizers" in quantities
        volume = self._log_volume(batch)
        options = Options(
            control.trace, how, (), control.draws, regularize=regularize, log_volume=volume
        )
        values, terms = self._objective.values(*self._inputs(batch, control), options, quantities)
        self._precision.of_state(terms.z)
        values |= {f"regularizers/{name}": row for name, row in terms.penalties.items()}
        return evaluation_report(values, terms.counts)

    @torch.no_grad()
    def sample(self, batch: Batch, control: Control, *, density: bool = False) -> EvaluationReport:
        """Maps `batch.noise['base']` to data."""
        base = self._tensor(batch.noise["base"]).flatten(1)
        trace = control.trace if density else None
        options = Options(trace, self._how(control), draws=control.draws)
        values, counts = self._objective.sample(base, self._inputs(batch, control)[1], options)
        self._precision.of_state(values["sample"])
        return evaluation_report(values, counts)

    def synchronize(self) -> None:
        """Returns when the device is idle."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def compiled_anew(self) -> int | None:
        """Programs that were not kept from an earlier process; None where none are kept."""
        # Only what compiles has imported it.
        inductor = sys.modules.get("harness_torch.solve.inductor")
        return None if inductor is None else inductor.compiled_anew()

    def peak_device_bytes(self) -> int | None:
        """Largest memory that tensors had on the GPU, as the allocator counts."""
        if self._device.type != "cuda":
            return None
        return int(torch.cuda.max_memory_allocated(self._device))

    def _how(self, control: Control, *, training: bool = False) -> How:
        engine = get_engine(control.engine) if control.engine else self._engine
        return How(engine, control.solver, control.gradient if training else None)

    def _inputs(self, batch: Batch, control: Control) -> tuple[Tensor, Noise]:
        noise = noise_of(batch, self._flow.shape, self._tensor, control)
        return self._tensor(batch.x), noise

    def _log_volume(self, batch: Batch) -> Tensor | None:
        return None if batch.log_volume is None else self._tensor(batch.log_volume)

    def _tensor(self, value: Array) -> Tensor:
        return torch.tensor(np.asarray(value), dtype=self._dtype, device=self._device)
