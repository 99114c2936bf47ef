"""How a trial trains: loss, optimiser, learning rate, when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from harness.specs.bounds import LATER, STRICT, Bound, Count, NonNegative, Positive

__all__ = [
    "Optimizer",
    "Patience",
    "RegularizerName",
    "Schedule",
    "TraceName",
    "Training",
]

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
    "released.jdiag",
    "released.joffdiag",
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
TraceName = Literal["bottleneck", "exact", "hutch++", "hutchinson"]


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

    __pydantic_config__ = STRICT

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

    __pydantic_config__ = STRICT

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

    __pydantic_config__ = STRICT

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
        last_batch: The short batch that is left at the end of an epoch is dropped, so that all
            batches have one shape, or kept.
        stratified: A batch of a 2-D toy has equally many points of each of its components, evenly
            placed where the released code places them so; for toys alone.
        validation_trace: How the divergence is computed in validation, which is by the training
            solver; null means as in training.
        validation_batch: Examples that are validated in one solve; they share its steps.
        protocol: Name of the preset that supplied the defaults.
        probes: Probes of an estimated trace, over which it is averaged; of validation, too. For
            `hutch++` products with the Jacobian an evaluation, a multiple of 3.
        draws: Times of a solve at which there are other probes: 1 fixes them in it.
    """

    __pydantic_config__ = STRICT

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
    last_batch: Literal["drop", "keep"] = "drop"
    stratified: bool = False
    validation_trace: TraceName | None = None
    validation_batch: Count = 1000
    protocol: Literal["paper", "released-code"] | None = None
    probes: Count = field(default=1, metadata=LATER)
    draws: Count = field(default=1, metadata=LATER)
