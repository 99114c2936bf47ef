"""The parts of a trial: model, solver, optimiser, training, evaluation.

Plain frozen dataclasses, so that a worker needs neither pydantic nor YAML. The annotations carry
the bounds; `harness.suite` lets pydantic enforce them on what a user wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from harness.bounds import Bound, Count, NonNegative, Positive
from harness.solvers import ADAPTIVE_SOLVERS, FIXED_SOLVERS

__all__ = [
    "AdaptiveSolver",
    "BatchNorm",
    "DatasetRef",
    "EndTime",
    "EngineName",
    "Evaluation",
    "FixedSolver",
    "GradientName",
    "LayerName",
    "LibrarySolver",
    "ModelSpec",
    "NonlinearityName",
    "Optimizer",
    "Patience",
    "Posterior",
    "PrecisionName",
    "RegularizerName",
    "SampleMetrics",
    "Schedule",
    "SolverSpec",
    "TraceName",
    "Training",
]


# Strict: a string is never a number and an unknown key never passes. A dict is all that pydantic
# needs, so no import of it here.
_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}

LayerName = Literal[
    "blend",
    "concat",
    "concat_v2",
    "concatcoord",
    "concatsquash",
    "hyper",
    "ignore",
    "squash",
]
NonlinearityName = Literal["elu", "identity", "relu", "softplus", "square", "swish", "tanh"]
RegularizerName = Literal[
    "directional_jvp",
    "ffjord.dl2",
    "ffjord.jdiag",
    "ffjord.jfrob",
    "ffjord.joffdiag",
    "ffjord.l1",
    "ffjord.l2",
    "jacobian_sum",
    "kinetic_sum",
    "rnode.directional",
    "rnode.jacobian",
    "rnode.kinetic",
    "rnode.total",
    "steer",
    "taylor_2",
    "taylor_3",
    "taylor_4",
    "tpr",
]
TraceName = Literal["bottleneck", "exact", "hutchinson"]
GradientName = Literal["adjoint", "auto", "checkpoint", "direct"]
EngineName = Literal["library", "native"]
PrecisionName = Literal["float32", "float64", "tf32"]


@dataclass(frozen=True)
class DatasetRef:
    """A dataset by name, pinned to the digest of its raw bytes and loader version."""

    name: str
    digest: str


@dataclass(frozen=True)
class EndTime:
    """The end of the integration interval [0, T] of each block.

    `fixed`: T is a constant. `inert`: T is stored and counted as a parameter but receives no
    gradient, as in the released FFJORD code. `trained`: its square root is trained.
    """

    __pydantic_config__ = _STRICT

    value: Positive = 1.0
    mode: Literal["fixed", "inert", "trained"] = "fixed"


@dataclass(frozen=True)
class BatchNorm:
    """Moving batch norm before the first block and after every block (FFJORD's released code).

    Arguments:
        lag: Share of the running statistics in what a training step normalises by. 0 means, as
            released, the running statistics alone, before their update.
        decay: Rate at which the running statistics follow the batch.
    """

    __pydantic_config__ = _STRICT

    lag: Annotated[float, Bound(at_least=0, at_most=0.999)] = 0.0
    decay: Annotated[float, Bound(above=0, at_most=1)] = 0.1


@dataclass(frozen=True)
class Posterior:
    """Makes the model a variational autoencoder whose posterior is the flow
    (`harness.autoencoder`): q(z0 | x) is a Gaussian, and the flow takes z0 to z.

    Arguments:
        latent: Dimension of z.
        amortization: What an example gives to the dynamics: nothing, biases, biases and a change
            of low rank to every weight, or all weights.
        rank: Of `low_rank`.
    """

    __pydantic_config__ = _STRICT

    latent: Count = 64
    amortization: Literal["bias", "hyper", "low_rank", "plain"] = "low_rank"
    rank: Count = 64


@dataclass(frozen=True)
class ModelSpec:
    """The flow: `blocks` stacked ODE blocks, each with a net for its dynamics.

    Arguments:
        layer: How a layer sees the time.
        hidden: Widths of the hidden layers, channels of a convolutional net; the outer ones are
            the data's.
        nonlinearity: Between the layers, never after the last.
        blocks: Number of stacked blocks ("flow steps" in the paper); in a multiscale model, before
            each squeeze and after it.
        end_time: End of each block's integration interval.
        strides: One a layer, `len(hidden) + 1` of them: 1 (3x3), 2 (4x4, halves the image) or -2
            (4x4 transposed, doubles it); null means layers that are not convolutional.
        scales: More than 1 means a multiscale model: at each scale but the last blocks, squeeze,
            blocks, then half of the channels leave; at the last, blocks.
        residual: dz/dt = net(t, z) - z.
        batch_norm: Moving batch norm between the blocks.
        spectral_norm: Every weight is divided by its largest singular value.
        zero_last: The last layer of each net starts at zero.
        posterior: The flow is the posterior of a variational autoencoder.
    """

    __pydantic_config__ = _STRICT

    layer: LayerName = "concatsquash"
    hidden: tuple[Count, ...] = (64, 64, 64)
    nonlinearity: NonlinearityName = "tanh"
    blocks: Count = 1
    end_time: EndTime = field(default_factory=EndTime)
    strides: tuple[Literal[-2, 1, 2], ...] | None = None
    scales: Count = 1
    residual: bool = False
    batch_norm: BatchNorm | None = None
    spectral_norm: bool = False
    zero_last: bool = False
    posterior: Posterior | None = None


@dataclass(frozen=True)
class AdaptiveSolver:
    """An embedded Runge-Kutta pair under the shared step-size control (docs/numerics.md).

    Arguments:
        name: The pair.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        first_step: `heuristic`; `whole`, the interval; `warm`, in training the largest step that
            the same solve accepted in the step before, else the heuristic; or a number.
        norm: `mixed` or `rms_all`.
        max_steps: Attempts after which a solve has failed.
        end: `stop` on the end exactly, or step past it and `interpolate` as torchdiffeq does.
    """

    __pydantic_config__ = _STRICT

    name: Literal[ADAPTIVE_SOLVERS]  # type: ignore[valid-type]
    rtol: Positive = 1e-5
    atol: Positive = 1e-5
    first_step: (
        Literal["heuristic", "warm", "whole"] | Annotated[float, Bound(above=0, at_most=1)]
    ) = "heuristic"
    norm: Literal["mixed", "rms_all"] = "mixed"
    max_steps: Count = 1000
    end: Literal["interpolate", "stop"] = "stop"


@dataclass(frozen=True)
class FixedSolver:
    """A Runge-Kutta method with `steps` equal steps of s in [0, 1]."""

    __pydantic_config__ = _STRICT

    name: Literal[FIXED_SOLVERS]  # type: ignore[valid-type]
    steps: Count


@dataclass(frozen=True)
class LibrarySolver:
    """Any solver of one library under that library's own control; never compared across backends.

    Arguments:
        library: `torchdiffeq:<name>` or `diffrax:<Name>`, as the library spells it.
        rtol: Relative tolerance of an adaptive method.
        atol: Absolute tolerance.
        steps: Equal steps of a fixed-step method; null means adaptive.
        max_steps: Attempts after which a solve has failed.
    """

    __pydantic_config__ = _STRICT

    library: str
    rtol: Positive = 1e-5
    atol: Positive = 1e-5
    steps: Count | None = None
    max_steps: Count = 1000

    @property
    def name(self) -> str:
        """What other solvers call their name."""
        return self.library


SolverSpec = AdaptiveSolver | FixedSolver | LibrarySolver


@dataclass(frozen=True)
class Optimizer:
    """The optimiser: betas 0.9 and 0.999.

    `adam` and `adamax` add `weight_decay` times the array to its gradient, `adamw` takes it off
    the array itself. `adam_eps_hat` adds eps before the bias correction, and its weight decay has
    no effect: both as in FFJORD's released code.

    Arguments:
        name: The method.
        lr: Learning rate.
        eps: Added to the denominator.
        weight_decay: Strength of the weight decay.
        clip_norm: The gradient is scaled down to this norm over all arrays; null means never.
    """

    __pydantic_config__ = _STRICT

    name: Literal["adam", "adam_eps_hat", "adamax", "adamw"] = "adam"
    lr: Positive = 1e-3
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = None


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps, as a factor.

    Arguments:
        warmup: Steps over which it rises linearly.
        drops: Steps at which it is multiplied by `factor`.
        factor: See `drops`, and `Patience.drops`.
        kl_warmup: Steps over which the weight of the KL term of an autoencoder rises to 1: it is
            (epochs begun) / (epochs of the warm-up), an epoch being `Training.validate_every`
            steps, as in the released code.
    """

    __pydantic_config__ = _STRICT

    warmup: Annotated[int, Bound(at_least=0)] = 0
    drops: tuple[Count, ...] = ()
    factor: Annotated[float, Bound(above=0, at_most=1)] = 0.1
    kl_warmup: Annotated[int, Bound(at_least=0)] = 0


@dataclass(frozen=True)
class Patience:
    """What happens when validations bring no gain.

    Arguments:
        drops: After more validations without gain than each of these, the learning rate is
            multiplied by `Schedule.factor` once more; it never rises again.
        stop: Training ends after more than so many; null means never.
        after: Validations before this step are not counted, but can be the best.
    """

    __pydantic_config__ = _STRICT

    drops: tuple[Count, ...] = ()
    stop: Count | None = None
    after: Annotated[int, Bound(at_least=0)] = 0


@dataclass(frozen=True)
class Training:
    """How a trial trains.

    Arguments:
        iterations: Number of optimiser steps.
        batch: Examples a step.
        optimizer: The optimiser.
        schedule: Its learning rate over the steps.
        patience: What validations without gain lead to.
        trace: How the divergence is computed in training.
        probe: Law of the Hutchinson probe.
        validate_every: Steps between validations; 0 validates only at the end.
        validation_rows: At most so many rows of the validation split are used; null means all.
        keep: Evaluate the arrays of the best validation, or the last ones.
        protocol: Name of the preset that supplied the defaults.
    """

    __pydantic_config__ = _STRICT

    iterations: Count = 1000
    batch: Count = 100
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    patience: Patience = field(default_factory=Patience)
    trace: TraceName = "hutchinson"
    probe: Literal["gaussian", "rademacher"] = "gaussian"
    validate_every: Annotated[int, Bound(at_least=0)] = 200
    validation_rows: Count | None = None
    keep: Literal["best", "last"] = "best"
    protocol: Literal["paper", "released-code"] | None = None


@dataclass(frozen=True)
class SampleMetrics:
    """Distances of samples from test rows, in PaddingFlow's protocol (`harness.metrics.protocol`).

    Arguments:
        rows: Rows of each sampling and of the references, or all test rows if there are fewer;
            20,000 as published.
        samplings: Sets of samples; published minima are over 100.
        exact_emd_rows: The two exact earth mover's distances are of the first so many rows of both
            sets; 0 leaves them out.
    """

    __pydantic_config__ = _STRICT

    rows: Annotated[int, Bound(at_least=1, at_most=20_000)] = 20_000
    samplings: Count = 100
    exact_emd_rows: Annotated[int, Bound(at_least=0, at_most=20_000)] = 2_000


@dataclass(frozen=True)
class Evaluation:
    """How a trial is evaluated.

    Arguments:
        trace: How the divergence is computed.
        batch: Rows a solve; part of the identity, since all rows of a batch share their steps.
        rows: At most so many test rows are used; null means all.
        solver: Solver of the evaluation; null means the training solver.
        samples: Number of model samples drawn for the report.
        sample_metrics: Distances of samples from test rows, of tables and 2-D data; null: none.
        image_metrics: Coverage and matching distance of an autoencoder's reconstructions and of
            its prior samples, against the same test rows as the ELBO.
        importance_samples: Draws of the posterior for an autoencoder's importance-weighted NLL;
            0: none.
    """

    __pydantic_config__ = _STRICT

    trace: TraceName = "exact"
    batch: Count = 1000
    rows: Count | None = None
    solver: SolverSpec | None = None
    samples: Annotated[int, Bound(at_least=0)] = 1000
    sample_metrics: SampleMetrics | None = None
    image_metrics: bool = False
    importance_samples: Annotated[int, Bound(at_least=0)] = 0
