"""The shared CNF interface: what a backend implements and what the harness calls.

Implementing a backend:
    1. Write a final subclass of `Backend` with a unique `name`, and register it under the entry
       point group `harness.backends`. Importing its module must not import the framework.
    2. `supports` looks at a trial and returns `Unsupported(reason)` or None; no framework needed.
    3. `prepare` imports the framework and sets precision, threads and determinism, once a process.
    4. `open` builds a final subclass of `Model`. Arrays carry the names, shapes and initial values
       that `harness.architecture.arrays` gives; the mathematics is that of docs/numerics.md.
    5. Run `python -m pytest -p harness.conformance.plugin --pyargs harness.conformance
       --backend <name>`.

Arrays cross this interface as numpy; everything else stays inside the backend.

The flow: data x is the state at s = 0 of the first block, the base variable z the state at s = 1
of the last; the state also carries a = integral of -Tr(df/dz), so that
log p(x) = log N(z; 0, I) - a (FFJORD, arXiv:1810.01367, eq. 4).
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy.typing as npt

from harness.trial import EngineName, GradientName, SolverSpec, TraceName, Trial

__all__ = [
    "Array",
    "Arrays",
    "Backend",
    "Batch",
    "Control",
    "DataInfo",
    "Likelihood",
    "Model",
    "Nfe",
    "Quantity",
    "StepReport",
    "Unsupported",
]

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Likelihood = Literal["bernoulli", "categorical", "density"]
Quantity = Literal["elbo_terms", "encode", "log_prob", "reconstruct", "regularizers"]


@dataclass(frozen=True)
class Unsupported:
    """Why a backend cannot run a trial; shown in the plan and the report."""

    reason: str


@dataclass(frozen=True)
class DataInfo:
    """What a model must know of its data.

    Arguments:
        name: Name of the dataset.
        event_shape: Shape of one example, e.g. (2,) or (1, 28, 28).
        likelihood: `density`: a flow is fitted to the rows themselves. `bernoulli` and
            `categorical`: images for an autoencoder, pixels 0 or 1, or k / 255 for level k.
    """

    name: str
    event_shape: tuple[int, ...]
    likelihood: Likelihood = "density"

    @property
    def categorical(self) -> bool:
        """Whether pixels are levels k / 255, each of which has a probability of its own."""
        return self.likelihood == "categorical"


@dataclass(frozen=True)
class Batch:
    """Examples and all randomness of one call.

    Arguments:
        x: [size, *event_shape] in the model's precision; for `Model.sample` an empty [0, ...].
        noise: Arrays by slot (`harness.architecture.noise`; of a training step of flow matching
            what `harness.architecture.matching.matched` says). Rademacher probes are int8.
        log_volume: Of solvers with `log_volume_in_state`, log-volume of the preprocessing of each
            example, [size] nats: the integral of the trace starts at it, negated. What a model
            returns leaves it out all the same.
    """

    x: Array
    noise: Mapping[str, Array] = field(default_factory=dict)
    log_volume: Array | None = None

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.x)


@dataclass(frozen=True)
class Control:
    """How one call is computed; `step`, `lr` and `kl_weight` are traced: changing them recompiles
    nothing.

    Arguments:
        solver: Solver of this call; training and evaluation may differ.
        trace: `exact`, `hutchinson`, `hutch++` or `bottleneck`.
        gradient: Gradient mode, never `auto`; read by `train_step` only.
        step: 0-based number of the optimiser step.
        lr: Learning rate of this step.
        kl_weight: Weight of the KL term of an autoencoder.
        probes: Probes over which an estimated trace is averaged.
        draws: Times of a solve at which there are other probes (docs/numerics.md, 4); slots are
            then [size, draws, probes, ...], without an axis that has the length 1.
        engine: Who takes the steps of this call; None means the engine of the trial.
    """

    solver: SolverSpec
    trace: TraceName
    gradient: GradientName = "adjoint"
    step: int = 0
    lr: float = 0.0
    kl_weight: float = 1.0
    probes: int = 1
    draws: int = 1
    engine: EngineName | None = None


@dataclass(frozen=True)
class Nfe:
    """Evaluations of the augmented dynamics, one entry a block (docs/numerics.md, Counting).

    Arguments:
        forward: Evaluations of the forward solve, the first-step heuristic included; 1 in a
            training step of flow matching, which is no solve.
        backward: Evaluations of the adjoint ODE; empty in every other gradient mode.
        accepted: Accepted steps of the forward solve.
        rejected: Rejected steps of the forward solve.
        vjp: Evaluations whose vector-Jacobian product a training step took, other than those of
            the adjoint ODE.
        recompute: Evaluations that the backward pass did again: all that it differentiates in mode
            `checkpoint`, in mode `direct` those that a backend had no room to keep.
    """

    forward: tuple[int, ...]
    backward: tuple[int, ...] = ()
    accepted: tuple[int, ...] = ()
    rejected: tuple[int, ...] = ()
    vjp: tuple[int, ...] = ()
    recompute: tuple[int, ...] = ()


@dataclass(frozen=True)
class StepReport:
    """What one training step did, as plain numbers.

    Arguments:
        loss: nll plus the weighted regularizers, nats per example; of flow matching with K blocks
            K times the sum over blocks of the batch mean of |T f(T u, point) - rate|^2
            (`harness.architecture.matching.matched`).
        nll: Mean negative log-likelihood of the batch, nats; of an autoencoder the reconstruction
            plus `Control.kl_weight` times the KL term; None in flow matching, which computes none.
        regularizers: Unweighted batch means by name.
        nfe: Evaluation counts.
        failure: None, or why the solve did not finish (`max_steps`, `non-finite`, `underflow`, and
            `not converged` where a library doubts its own solution); the arrays of the model are
            then unspecified and the trial ends as `diverged`.
    """

    loss: float
    nll: float | None
    regularizers: Mapping[str, float]
    nfe: Nfe
    failure: str | None = None


class Pending(abc.ABC):
    """A step that may still be running on the device."""

    @abc.abstractmethod
    def fetch(self) -> StepReport:
        """Waits for the step and returns its report. Called at log cadence only."""


@dataclass(frozen=True)
class EvaluationReport:
    """Per-example results.

    Arguments:
        values: By quantity: `log_prob` [size] nats; `encode` [size, *event_shape];
            `regularizers/<name>` [size], each integral per example, unweighted;
            `elbo_terms/reconstruction` and `elbo_terms/kl` [size], -log p(x | z) and
            log q(z0 | x) + a - log p(z) in nats, whose sum is the negative ELBO;
            `reconstruct` [size, *event_shape], the Bernoulli means, or the likeliest level / 255.
        nfe: Evaluation counts (forward only).
        failure: As in `StepReport`.
    """

    values: Mapping[str, Array]
    nfe: Nfe
    failure: str | None = None


class Model(abc.ABC):
    """A flow on one device, with its optimiser."""

    @abc.abstractmethod
    def arrays(self) -> Arrays:
        """Returns copies of trainable arrays and buffers under their portable names."""

    @abc.abstractmethod
    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Replaces trainable arrays and buffers; names and shapes must match exactly."""

    @abc.abstractmethod
    def state(self) -> Arrays:
        """Returns what exact resume needs beside `arrays`.

        Moments `adam/m/<name>` and `adam/v/<name>` (for adamax the infinity norm) and `adam/count`
        (int64, shape ()). With first steps `warm` also `warm/forward` and, in mode `adjoint`,
        `warm/backward`: float64 [blocks], the power of two next to the largest step that each
        block's solve accepted in the last training step, in units of s; 0 before the first.
        """

    @abc.abstractmethod
    def load_state(self, state: Mapping[str, Array]) -> None:
        """Restores what `state` returned."""

    @abc.abstractmethod
    def compile(self, batch: Batch, control: Control) -> None:
        """Compiles what `train_step` needs for these shapes; changes no state."""

    @abc.abstractmethod
    def train_step(self, batch: Batch, control: Control) -> Pending:
        """Takes one optimiser step: forward, gradient, update.

        Flow matching solves nothing: each block is evaluated once, at the points that the batch
        has for it, and that evaluation differentiated, whatever the gradient mode.
        """

    @abc.abstractmethod
    def evaluate(
        self, batch: Batch, control: Control, quantities: Sequence[Quantity]
    ) -> EvaluationReport:
        """Computes per-example quantities; changes no state."""

    @abc.abstractmethod
    def sample(self, batch: Batch, control: Control, *, density: bool = False) -> EvaluationReport:
        """Maps `batch.noise['base']` [n, *event_shape] backwards through the flow.

        Arguments:
            batch: The base sample, and with `density` the probes of the trace.
            control: Solver, and with `density` the trace.
            density: Carry the log-density along, from that of the base sample.

        Returns:
            A report with the quantity `sample` [n, *event_shape], and with `density` `log_prob`
            [n]. Without, the log-density is not integrated, and the error norm is over z alone.
            An autoencoder decodes its base sample [n, latent] as in `reconstruct`; its flow, a
            posterior, takes no part.

        Raises:
            BackendError: `density` of an autoencoder, whose samples have none.
        """

    @abc.abstractmethod
    def synchronize(self) -> None:
        """Returns when the device is idle. Brackets every timed region."""

    def compiled_anew(self) -> int | None:
        """Programs that this process has compiled because no cache had them; None where nothing is
        compiled, or where there is no cache.
        """
        return None

    def peak_device_bytes(self) -> int | None:
        """Largest memory used on the device; None where it is the host's, or not known."""
        return None

    def close(self) -> None:  # noqa: B027  (a backend without resources need not override it)
        """Frees device memory."""


class Backend(abc.ABC):
    """A framework that can run trials."""

    name: str
    """Unique name, as written in suites."""

    framework: tuple[str, ...]
    """Distributions it needs, e.g. ("torch", "torchdiffeq"); asked of importlib.metadata."""

    direct_pays: bool = True
    """Whether mode `direct`, where it fits, is faster than `checkpoint`; `auto` asks."""

    @abc.abstractmethod
    def supports(self, trial: Trial) -> Unsupported | None:
        """Says whether the backend can run `trial`. Must not import the framework."""

    def preload(self, cores: int) -> None:  # noqa: B027  (a backend need not be quick to start)
        """Imports what every trial needs, in a process that forks another for each of them.

        Nothing may depend on a trial: no device is touched, no thread started, nothing set that
        `prepare` would set otherwise. By default nothing is imported.

        Arguments:
            cores: Cores of the trials; the process is pinned to as many.
        """

    @abc.abstractmethod
    def prepare(self, trial: Trial, cores: int) -> Mapping[str, Any]:
        """Imports the framework and sets precision, `cores` threads and determinism.

        Called once a process, before `open`.

        Returns:
            What was set and found, for `environment.json`: versions, threads, device kind.
        """

    def choose(self, trial: Trial, data: DataInfo, device: str, cores: int) -> Mapping[str, str]:
        """What the backend decides and numbers may depend on, e.g. whether to compile.

        Asked before the first attempt at a trial; the answer is stored, and `open` gets it in
        every attempt. No framework needed.
        """
        return {}

    @abc.abstractmethod
    def open(
        self, trial: Trial, data: DataInfo, device: str, choices: Mapping[str, str] | None = None
    ) -> Model:
        """Builds the model of a trial with its initial arrays on `device` ("cpu" or "gpu").

        Arguments:
            trial: The trial, its gradient mode never `auto`.
            data: Shape of an example.
            device: Where it computes.
            choices: What `choose` answered; None means to decide anew.

        Raises:
            BackendError: The model does not fit the data, or the device is not there.
        """
