"""What is compiled whole, a training step, an evaluation, a sample, and with which options."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import monitoring

from harness.trial import Optimizer, TraceName
from harness_jax.flow import Terms
from harness_jax.noise import LOG_VOLUME
from harness_jax.objective import Objective, Options
from harness_jax.optimizers import Moments, update
from harness_jax.solve.adjoint import FAILURE, LARGEST, new_ledger
from harness_jax.solve.counts import Stats
from harness_jax.solve.engines import FirstSteps, How
from harness_jax.warm import Steps, power_of_two

__all__ = [
    "Outcome",
    "compiled_anew",
    "compiler_options",
    "evaluate_program",
    "sample_program",
    "train_program",
]

Stacked = dict[str, jax.Array]

_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""Products by Eigen, not by YNNPACK as XLA chooses: faster for large batches and, with the thin
products of `harness_jax.net.affine`, as fast for the toy nets (docs/benchmarks.md)."""

_CHEAP_PASSES = {"xla_backend_optimization_level": "1"}
"""What LLVM makes of the operations between convolutions, which Eigen computes: half the time to
compile, and no slower a step (docs/benchmarks.md)."""


_EVENTS: Counter[str] = Counter()
"""What jax has told of its work in this process."""


def _count(event: str, **_: object) -> None:
    _EVENTS[event] += 1


monitoring.register_event_listener(_count)


def compiled_anew() -> int | None:
    """Programs that the compilation cache did not have; None without a cache."""
    settings: Any = jax.config
    cached = settings.jax_enable_compilation_cache and settings.jax_compilation_cache_dir
    return _EVENTS["/jax/compilation_cache/cache_misses"] if cached else None


@cache
def compiler_options(platform: str, *, convolutions: bool) -> Mapping[str, str]:
    """Options for `jax.jit` on a platform; none that this XLA does not know, or that is set."""
    if platform != "cpu":
        return {}
    wanted = [_EIGEN, *[_CHEAP_PASSES] * convolutions]
    given = os.environ.get("XLA_FLAGS", "")
    found = {name: value for each in wanted if _known(each) for name, value in each.items()}
    return {name: value for name, value in found.items() if f"--{name}=" not in given}


def _known(options: Mapping[str, str]) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options=dict(options)).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


class Outcome(NamedTuple):
    """What a training step leaves on the device.

    Arguments:
        loss: `mean` plus the weighted regularizers.
        mean: Mean of what the objective lowers; of a likelihood the nll.
        means: Unweighted batch means of the regularizers, in the order of `Flow.penalties`.
        stats: Of the forward solves; entries [blocks].
        ledger: What the backward solves did, [blocks, solves, 3] (`adjoint.new_ledger`).
    """

    loss: jax.Array
    mean: jax.Array
    means: list[jax.Array]
    stats: Stats
    ledger: jax.Array


def train_program(
    objective: Objective,
    trainable: tuple[str, ...],
    optimizer: Optimizer,
    how: How,
    trace: TraceName,
    draws: int,
) -> Callable[..., tuple[Stacked, Moments, Steps, Outcome]]:
    """Forward, gradient and update, a function of (arrays, moments, warm, x, noise, lr,
    kl_weight).
    """
    flow = objective.flow

    def step(
        arrays: Stacked,
        moments: Moments,
        warm: Steps,
        x: jax.Array,
        noise: Stacked,
        lr: jax.Array,
        kl_weight: jax.Array,
    ) -> tuple[Stacked, Moments, Steps, Outcome]:
        trained = {name: arrays[name] for name in trainable}
        floats = _floating(noise, x)

        def loss_of(
            trained: Stacked, ledger: jax.Array
        ) -> tuple[jax.Array, tuple[jax.Array, list[jax.Array], Terms]]:
            first = FirstSteps(warm.get("forward"), warm.get("backward"), ledger)
            options = Options(
                trace,
                how,
                first,
                draws,
                training=True,
                regularize=True,
                log_volume=floats.get(LOG_VOLUME),
            )
            rows, terms = objective.loss(arrays | trained, x, floats, options, kl_weight)
            mean = jnp.mean(rows)
            means = [jnp.mean(terms.penalties[name]) for name in flow.penalties]
            loss = mean
            for name, penalty in zip(flow.penalties, means, strict=True):
                loss = loss + flow.regularizers[name] * penalty
            return loss, (mean, means, terms)

        differentiate = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)
        ledger = new_ledger(flow.blocks * flow.solves).reshape(flow.blocks, flow.solves, -1)
        (loss, (mean, means, terms)), (gradient, ledger) = differentiate(trained, ledger)
        moved, stepped = update(optimizer, gradient, moments, trained, lr)
        largest = {"forward": terms.stats.largest, "backward": jnp.max(ledger[..., LARGEST], 1)}
        after = (
            arrays | moved | terms.buffers,
            stepped,
            {name: power_of_two(largest[name].astype(h.dtype)) for name, h in warm.items()},
        )
        # A step whose solves failed updates nothing.
        failures = ledger[..., FAILURE].any() | terms.stats.failure.any()
        done = ~failures & jnp.isfinite(loss)
        kept = jax.tree.map(lambda a, b: jnp.where(done, a, b), after, (arrays, moments, warm))
        return *kept, Outcome(loss, mean, means, terms.stats, ledger)

    return step


def evaluate_program(
    objective: Objective, how: How, trace: TraceName | None, draws: int, regularize: bool
) -> Callable[..., tuple[Stacked, Terms]]:
    """Per-example quantities as a function of (arrays, x, noise); see `Objective.values`."""

    def evaluate(arrays: Stacked, x: jax.Array, noise: Stacked) -> tuple[Stacked, Terms]:
        floats = _floating(noise, x)
        volume = floats.get(LOG_VOLUME)
        options = Options(trace, how, None, draws, regularize=regularize, log_volume=volume)
        return objective.values(arrays, x, floats, options)

    return evaluate


def sample_program(
    objective: Objective, how: How, trace: TraceName | None, draws: int
) -> Callable[..., tuple[Stacked, Stats | None]]:
    """The map from base to data as a function of (arrays, base, noise); see `Objective.sample`."""

    def sample(arrays: Stacked, base: jax.Array, noise: Stacked) -> tuple[Stacked, Stats | None]:
        return objective.sample(
            arrays, base, _floating(noise, base), Options(trace, how, draws=draws)
        )

    return sample


def _floating(noise: Stacked, x: jax.Array) -> Stacked:
    """Rademacher probes travel as int8."""
    return {name: value.astype(x.dtype) for name, value in noise.items()}
