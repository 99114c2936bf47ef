"""The functions that are compiled whole: a training step, an evaluation, a transport."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from harness.trial import GradientName, RegularizerName, SolverSpec, TraceName
from harness_jax.control import Stats
from harness_jax.flow import Flow, Terms, log_standard_normal
from harness_jax.gradients import new_ledger
from harness_jax.optimizers import AdamState, adam_step

__all__ = ["Density", "Outcome", "evaluate_program", "train_program", "transport_program"]

Stacked = dict[str, jax.Array]


class Outcome(NamedTuple):
    """What a training step leaves on the device.

    Arguments:
        loss: nll plus the weighted regularizers.
        nll: Mean negative log-likelihood.
        means: Unweighted batch means of the regularizers.
        stats: Of the forward solves; entries [blocks].
        ledger: Of the backward solves, see `new_ledger`; [blocks, 3].
    """

    loss: jax.Array
    nll: jax.Array
    means: list[jax.Array]
    stats: Stats
    ledger: jax.Array


class Density(NamedTuple):
    """What an evaluation leaves on the device."""

    log_prob: jax.Array
    terms: Terms


def train_program(
    flow: Flow,
    weights: Mapping[RegularizerName, float],
    trainable: tuple[str, ...],
    solver: SolverSpec,
    trace: TraceName,
    mode: GradientName,
) -> Callable[..., tuple[Stacked, AdamState, Outcome]]:
    """Forward, gradient and update as one function (arrays, adam, x, probes, lr)."""

    def step(
        arrays: Stacked,
        adam: AdamState,
        x: jax.Array,
        probes: jax.Array | None,
        lr: jax.Array,
    ) -> tuple[Stacked, AdamState, Outcome]:
        trained = {name: arrays[name] for name in trainable}

        def loss_of(
            trained: Stacked, ledger: jax.Array
        ) -> tuple[jax.Array, tuple[jax.Array, list[jax.Array], Stats]]:
            terms = flow.log_prob_terms(
                arrays | trained,
                x,
                _floating(probes, x),
                solver,
                trace,
                mode=mode,
                ledger=ledger,
                regularize=True,
            )
            nll = jnp.mean(terms.a - log_standard_normal(terms.z))
            means = [jnp.mean(r) for r in terms.r]
            loss = nll
            for weight, mean in zip(weights.values(), means, strict=True):
                loss = loss + weight * mean
            return loss, (nll, means, terms.stats)

        differentiate = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)
        ledger = new_ledger(len(jax.tree.leaves(arrays)[0]))
        (loss, (nll, means, stats)), (gradient, ledger) = differentiate(trained, ledger)
        # A step whose solves failed updates nothing.
        done = jnp.all(stats.failure == 0) & jnp.all(ledger[:, 1] == 0) & jnp.isfinite(loss)
        moved = adam_step(gradient, adam, trained, lr)
        trained, adam = jax.tree.map(lambda a, b: jnp.where(done, a, b), moved, (trained, adam))
        return arrays | trained, adam, Outcome(loss, nll, means, stats, ledger)

    return step


def evaluate_program(
    flow: Flow, solver: SolverSpec, trace: TraceName, regularize: bool
) -> Callable[..., Density]:
    """The density as a function of (arrays, x, probes)."""

    def evaluate(arrays: Stacked, x: jax.Array, probes: jax.Array | None) -> Density:
        terms = flow.log_prob_terms(
            arrays, x, _floating(probes, x), solver, trace, regularize=regularize
        )
        return Density(log_standard_normal(terms.z) - terms.a, terms)

    return evaluate


def transport_program(
    flow: Flow, solver: SolverSpec, inverse: bool
) -> Callable[..., tuple[jax.Array, Stats]]:
    """The map between data and base as a function of (arrays, z)."""

    def transport(arrays: Stacked, z: jax.Array) -> tuple[jax.Array, Stats]:
        return flow.transport(arrays, z, solver, inverse=inverse)

    return transport


def _floating(probes: jax.Array | None, x: jax.Array) -> jax.Array | None:
    """Rademacher probes travel as int8."""
    return None if probes is None else probes.astype(x.dtype)
