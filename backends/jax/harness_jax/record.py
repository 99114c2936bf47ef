"""A record of the accepted steps of a solve, from which the backward pass restarts each step.

The record has a fixed number of slots. When it is full, every other state is dropped and from then
on only every second (fourth, ...) is kept: memory stays bounded however many steps a solve takes,
and the states between are recomputed from the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from harness_jax.control import Tree, time_dtype

__all__ = ["SLOTS", "Record", "empty_record"]

SLOTS = 64
"""States kept at most; even, so that halving keeps the multiples of the stride."""

BYTES = 64 * 2**20
"""A record of large states keeps fewer, as many as fit in this, but at least `FEWEST`. Shapes
alone decide it, so the numbers are the same on every machine."""

FEWEST = 8

Advance = Callable[[jax.Array, jax.Array, Tree], Tree]


class Record(NamedTuple):
    """The steps of a solve.

    Arguments:
        states: y at the start of every `stride`-th step, [slots + 1, ...] each; the last slot
            takes what is not kept, which is cheaper than a branch.
        starts: s at the start of each step, [max_steps].
        sizes: The size of each step, [max_steps].
        stride: Distance of kept states in steps.
    """

    states: Tree
    starts: jax.Array
    sizes: jax.Array
    stride: jax.Array

    @property
    def slots(self) -> int:
        """Number of states that can be kept."""
        slots: int = jax.tree.leaves(self.states)[0].shape[0] - 1
        return slots

    def write(self, index: jax.Array, s: jax.Array, h: jax.Array, y: Tree) -> Record:
        """Stores step `index`; writing it again replaces it."""
        thinned = self._thin_if_full(index)
        stride = thinned.stride
        slot = jnp.where(index % stride == 0, index // stride, self.slots)
        return Record(
            jax.tree.map(lambda kept, leaf: kept.at[slot].set(leaf), thinned.states, y),
            self.starts.at[index].set(s),
            self.sizes.at[index].set(h),
            stride,
        )

    def read(self, index: jax.Array, advance: Advance) -> Tree:
        """The state at the start of step `index`."""
        slot = index // self.stride
        y = jax.tree.map(lambda kept: kept[slot], self.states)
        if len(self.starts) <= self.slots:
            return y
        return lax.fori_loop(
            slot * self.stride, index, lambda i, y: advance(self.starts[i], self.sizes[i], y), y
        )

    def _thin_if_full(self, index: jax.Array) -> Record:
        if len(self.starts) <= self.slots:
            return self
        full = index == self.slots * self.stride
        states = lax.fori_loop(
            0,
            jnp.where(full, self.slots // 2, 0),
            lambda i, states: jax.tree.map(lambda kept: kept.at[i].set(kept[2 * i]), states),
            self.states,
        )
        return self._replace(states=states, stride=jnp.where(full, 2, 1) * self.stride)


def empty_record(y: Tree, max_steps: int) -> Record:
    """A record for states like `y`."""
    leaves = jax.tree.leaves(y)
    afford = BYTES // sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) // 2 * 2
    slots = min(SLOTS, max(FEWEST, afford), max_steps + max_steps % 2)
    dtype = time_dtype(y)
    return Record(
        jax.tree.map(lambda leaf: jnp.zeros((slots + 1, *leaf.shape), leaf.dtype), y),
        jnp.zeros(max_steps, dtype),
        jnp.zeros(max_steps, dtype),
        jnp.ones((), jnp.int32),
    )
