"""A record of the accepted steps of a solve, from which the backward pass differentiates them.

Of each step it keeps the state z at its start and, if asked for, dz/ds of its stages: with these
every stage can be evaluated again without the others. The record has a fixed number of slots.
When it is full, every other step is dropped and from then on only every second (fourth, ...) is
kept: memory stays bounded however many steps a solve takes, and what is dropped is recomputed from
the step before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from harness.solvers import Tableau
from harness_jax.solve.problem import Tree, time_dtype

__all__ = ["SLOTS", "Record", "empty_record"]

SLOTS = 64
"""Steps kept at most; even, so that halving keeps the multiples of the stride."""

BYTES = 2**25
"""A record of large states keeps fewer, as many as fit in this, but at least `FEWEST`: XLA fills
and copies the whole record in every training step. Shapes alone decide it, so the numbers are the
same on every machine."""

FEWEST = 8

Advance = Callable[[jax.Array, Tree, Tree], tuple[Tree, Tree]]
"""(index of a step, z, k) -> z and k of the step after."""


class Record(NamedTuple):
    """The steps of a solve.

    Arguments:
        kept: (z, k) of every `stride`-th step, [slots + 1, ...] each; the last slot takes what is
            not kept, which is cheaper than a branch. k may be None.
        starts: s at the start of each step, [max_steps].
        sizes: The size of each step, [max_steps].
        stride: Distance of kept states in steps.
    """

    kept: Tree
    starts: jax.Array
    sizes: jax.Array
    stride: jax.Array

    @property
    def slots(self) -> int:
        """Number of steps that can be kept."""
        slots: int = jax.tree.leaves(self.kept)[0].shape[0] - 1
        return slots

    def write(self, index: jax.Array, s: jax.Array, h: jax.Array, z: Tree, k: Tree) -> Record:
        """Stores step `index`; writing it again replaces it."""
        thinned = self._thin_if_full(index)
        stride = thinned.stride
        slot = jnp.where(index % stride == 0, index // stride, self.slots)
        room = self.kept[1]
        step = z, room
        if room is not None:
            step = z, jax.tree.map(lambda own, rows: rows[: own.shape[1]], room, k)
        return Record(
            jax.tree.map(
                lambda kept, leaf: lax.dynamic_update_index_in_dim(kept, leaf, slot, 0),
                thinned.kept,
                step,
            ),
            lax.dynamic_update_index_in_dim(self.starts, s, index, 0),
            lax.dynamic_update_index_in_dim(self.sizes, h, index, 0),
            stride,
        )

    def read(self, index: jax.Array, advance: Advance, needless: jax.Array) -> tuple[Tree, Tree]:
        """(z, k) of step `index`.

        Arguments:
            index: The step.
            advance: Makes (z, k) of the step after from those of one.
            needless: True if what is read will not be used.
        """
        slot = index // self.stride
        step: tuple[Tree, Tree] = jax.tree.map(lambda kept: kept[slot], self.kept)
        if len(self.starts) > self.slots:
            first = jnp.where(needless, index, slot * self.stride)
            step = lax.fori_loop(first, index, lambda i, step: advance(i, *step), step)
        return step

    def recomputed(self, steps: jax.Array) -> jax.Array:
        """How many steps the reading of all of `steps` recomputes."""
        whole, rest = steps // self.stride, steps % self.stride
        return (whole * self.stride * (self.stride - 1) + rest * (rest - 1)) // 2

    def _thin_if_full(self, index: jax.Array) -> Record:
        if len(self.starts) <= self.slots:
            return self
        full = index == self.slots * self.stride
        kept = lax.fori_loop(
            0,
            jnp.where(full, self.slots // 2, 0),
            lambda i, kept: jax.tree.map(
                lambda rows: lax.dynamic_update_index_in_dim(rows, rows[2 * i], i, 0), kept
            ),
            self.kept,
        )
        return self._replace(kept=kept, stride=jnp.where(full, 2, 1) * self.stride)


def empty_record(z: Tree, tableau: Tableau, max_steps: int, *, slopes: bool) -> Record:
    """A record for states like `z`, with dz/ds of the stages or without."""
    leaves, needed = jax.tree.leaves(z), tableau.evaluations_per_step
    size = (1 + needed * slopes) * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    slots = min(SLOTS, max(FEWEST, BYTES // size // 2 * 2), max_steps + max_steps % 2)

    def room(*inner: int) -> Tree:
        return jax.tree.map(
            lambda leaf: jnp.zeros((slots + 1, *inner, *leaf.shape), leaf.dtype), z
        )

    times = jnp.zeros(max_steps, time_dtype(z))
    kept = room(), room(needed) if slopes else None
    return Record(kept, times, times, jnp.ones((), jnp.int32))
