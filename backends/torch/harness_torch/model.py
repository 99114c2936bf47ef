"""The model of a trial: arrays, training step, evaluation, samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from harness.architecture import array_specs, initial_arrays
from harness.errors import BackendError
from harness.interface import (
    Array,
    Arrays,
    Batch,
    Control,
    DataInfo,
    EvaluationReport,
    Model,
    Nfe,
    Pending,
    Quantity,
    StepReport,
)
from harness.trial import Trial
from harness_torch.flow import Flow, Terms, log_standard_normal
from harness_torch.gradients import Counts
from harness_torch.optimizers import Adam
from harness_torch.solve import solve

__all__ = ["TorchModel"]

DEVICES = {"cpu": "cpu", "gpu": "cuda"}


@final
class TorchModel(Model):
    """A flow on one device, with its optimiser; see `harness.interface.Model`.

    Arguments:
        trial: The trial; its seed decides the initial arrays.
        data: Shape of an example.
        device: `cpu` or `gpu`.
    """

    def __init__(self, trial: Trial, data: DataInfo, device: str) -> None:
        self._event_shape = data.event_shape
        self._dtype = getattr(torch, trial.precision)
        self._device = torch.device(DEVICES[device])
        self._weights = dict(sorted(trial.regularizer.items()))
        self._arrays: dict[str, Tensor] = {
            name: self._tensor(value)
            for name, value in initial_arrays(trial, data.event_shape).items()
        }
        trained = {}
        for spec in array_specs(trial.model, data.event_shape):
            if spec.trainable:
                trained[spec.name] = self._arrays[spec.name].requires_grad_()
        self._optimizer = Adam(trained)
        self._flow = Flow(trial.model, self._arrays, tuple(self._weights), solve)

    def arrays(self) -> Arrays:
        """Copies of all arrays."""
        return {name: _numpy(array) for name, array in self._arrays.items()}

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
        """Copies of the moments of Adam and its count."""
        return self._optimizer.state()

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Restores what `state` returned."""
        self._optimizer.load_state(state)

    def compile(self, batch: Batch, control: Control) -> None:
        """Does nothing: execution is eager."""

    def train_step(self, batch: Batch, control: Control) -> Pending:
        """Forward, gradient, update; a solve that fails updates nothing."""
        terms = self._flow.log_prob_terms(
            self._rows(batch.x),
            self._probes(batch),
            control.solver,
            control.trace,
            mode=control.gradient,
            regularize=True,
        )
        nll = (terms.a - log_standard_normal(terms.z)).mean()
        means = terms.r.mean(dim=1)
        loss = nll
        for weight, mean in zip(self._weights.values(), means, strict=True):
            loss = loss + weight * mean
        if terms.failure is None:
            loss.backward()  # type: ignore[no-untyped-call]
            # The adjoint solve runs within backward() and may fail there.
            if not any(count.failure for count in terms.counts):
                self._optimizer.step(control.lr)
        return _Pending(
            torch.stack([loss.detach(), nll.detach(), *means.detach()]),
            tuple(self._weights),
            terms.counts,
            adjoint=control.gradient == "adjoint",
        )

    def evaluate(
        self, batch: Batch, control: Control, quantities: Sequence[Quantity]
    ) -> EvaluationReport:
        """Per-example quantities; `encode` alone integrates z alone, like `sample`."""
        x = self._rows(batch.x)
        if set(quantities) <= {"encode"}:
            terms = self._flow.transport(x, control.solver, inverse=False)
            return self._report(terms, {"encode": terms.z})
        with torch.no_grad():
            terms = self._flow.log_prob_terms(
                x,
                self._probes(batch),
                control.solver,
                control.trace,
                regularize="regularizers" in quantities,
            )
            found = {"log_prob": log_standard_normal(terms.z) - terms.a, "encode": terms.z}
        values: dict[str, Tensor] = {k: v for k, v in found.items() if k in quantities}
        values |= {
            f"regularizers/{name}": row for name, row in zip(self._weights, terms.r, strict=False)
        }
        return self._report(terms, values)

    def sample(self, batch: Batch, control: Control) -> EvaluationReport:
        """Maps `batch.noise['base']` to data."""
        base = self._rows(batch.noise["base"])
        terms = self._flow.transport(base, control.solver, inverse=True)
        return self._report(terms, {"sample": terms.z})

    def synchronize(self) -> None:
        """Returns when the device is idle."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _tensor(self, value: Array) -> Tensor:
        return torch.tensor(np.asarray(value), dtype=self._dtype, device=self._device)

    def _rows(self, value: Array) -> Tensor:
        """Examples or probes as [batch, D]; Rademacher probes arrive as int8."""
        return self._tensor(value).reshape(len(value), math.prod(self._event_shape))

    def _probes(self, batch: Batch) -> dict[str, Tensor]:
        return {k: self._rows(v) for k, v in batch.noise.items() if k.startswith("probe/")}

    def _report(self, terms: Terms, values: Mapping[str, Tensor]) -> EvaluationReport:
        """Fetches the values; a solve that stopped early has none."""
        failure = terms.failure
        if failure is None and not all(bool(x.isfinite().all()) for x in values.values()):
            failure = "non-finite"
        arrays: Arrays = {}
        if failure is None:
            arrays = {name: _numpy(value) for name, value in values.items()}
            for name in ("encode", "sample"):
                if name in arrays:
                    arrays[name] = arrays[name].reshape(-1, *self._event_shape)
        return EvaluationReport(arrays, _nfe(terms.counts, adjoint=False), failure)


class _Pending(Pending):
    """The parts of a loss on the device; the counts are known to the host already."""

    def __init__(
        self, values: Tensor, names: Sequence[str], counts: Sequence[Counts], *, adjoint: bool
    ) -> None:
        self._values, self._names = values, names
        self._counts, self._adjoint = counts, adjoint

    def fetch(self) -> StepReport:
        """A step whose solve stopped early has no loss: NaN."""
        failure = next((c.failure for c in self._counts if c.failure), None)
        values = self._values.tolist()
        if failure is not None:
            values = [math.nan] * len(values)
        elif not math.isfinite(values[0]):
            failure = "non-finite"
        loss, nll, *means = values
        regularizers = dict(zip(self._names, means, strict=True))
        nfe = _nfe(self._counts, adjoint=self._adjoint)
        return StepReport(loss, nll, regularizers, nfe, failure)


def _nfe(counts: Sequence[Counts], *, adjoint: bool) -> Nfe:
    return Nfe(
        tuple(c.forward for c in counts),
        tuple(c.backward for c in counts) if adjoint else (),
        tuple(c.accepted for c in counts),
        tuple(c.rejected for c in counts),
    )


def _numpy(array: Tensor) -> Array:
    return array.detach().cpu().numpy().copy()
