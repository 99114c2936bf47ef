"""Flow matching: the field is trained on points of paths between rows and base samples, without a
solve; measured is the density of the flow that it makes (docs/numerics.md, section 16).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from harness_jax.flow import Flow, Terms
from harness_jax.objective import Density, Options, Stacked, Values
from harness_jax.runs import Run
from harness_jax.solve.counts import Stats

__all__ = ["Matching"]


@dataclass(frozen=True)
class Matching:
    """The loss of flow matching, and all else that of the density.

    Arguments:
        density: The density of the same flow.
    """

    density: Density

    @property
    def flow(self) -> Flow:
        """The flow."""
        return self.density.flow

    def loss(
        self,
        arrays: Stacked,
        x: jax.Array,
        noise: Stacked,
        options: Options,
        kl_weight: jax.Array,
    ) -> tuple[jax.Array, Terms]:
        """See `Objective.loss`: K sum over K blocks of |T f(T s, point) - rate|^2, with one
        evaluation of each block. The base variables among the terms are zero: nothing is carried
        there.
        """
        del kl_weight
        blocks = self.flow.blocks
        runs = [part for part in self.flow.parts if isinstance(part, Run)]
        given = jnp.concatenate([noise[f"{run.name}/rate"] for run in runs])
        rates, buffers = self.flow.rates(arrays, noise, options.how)
        distances = jnp.sum(jnp.square(rates - given).reshape(blocks, len(x), -1), axis=2)
        loss = blocks * jnp.sum(distances, axis=0)
        terms = Terms(
            jnp.zeros_like(x), jnp.zeros_like(loss), {}, _one_evaluation(blocks), buffers
        )
        return loss, terms

    def values(
        self, arrays: Stacked, x: jax.Array, noise: Stacked, options: Options
    ) -> tuple[Values, Terms]:
        """See `Objective.values`."""
        return self.density.values(arrays, x, noise, options)

    def sample(
        self, arrays: Stacked, base: jax.Array, noise: Stacked, options: Options
    ) -> tuple[Values, Stats | None]:
        """See `Objective.sample`."""
        return self.density.sample(arrays, base, noise, options)


def _one_evaluation(blocks: int) -> Stats:
    """Each block was evaluated once, and that evaluation is differentiated."""
    none, one = jnp.zeros(blocks, jnp.int32), jnp.ones(blocks, jnp.int32)
    no_step = jnp.zeros(blocks)
    return Stats(
        accepted=none,
        rejected=none,
        evaluations=one,
        first_step=no_step,
        proposed=no_step,
        largest=no_step,
        failure=none,
        vjp=one,
        recompute=none,
    )
