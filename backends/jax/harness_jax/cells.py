"""The cells of a flow: a block and the norm that follows it, as bodies of scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from harness.architecture.transforms import Block
from harness.errors import BackendError
from harness.trial import ModelSpec, RegularizerName, TraceName
from harness_jax.field import Augmented, Velocity
from harness_jax.net.spectral import divided
from harness_jax.net.timed import value_at_times
from harness_jax.norm import denormed, normed
from harness_jax.runs import Cell
from harness_jax.solve.blocks import pieces, solve_pieces, solve_whole
from harness_jax.solve.counts import Stats
from harness_jax.solve.engines import FirstSteps, How
from harness_jax.solve.problem import (
    Field,
    InitialValue,
    Inputs,
    Reversed,
    leaves_for,
    rates_of,
)
from harness_jax.trajectory import distance_to_line

__all__ = ["Carry", "CellInputs", "Cells"]

SQRT_END_TIME = "sqrt_end_time"

Buffers = dict[str, jax.Array]


class Carry(NamedTuple):
    """What goes from cell to cell.

    Arguments:
        z: State, [batch, ...].
        q: Integrals, [rows, batch]: a, then the regularizers; no rows without the density.
        distance: Squared distance of the trajectories from straight lines (`tpr`), summed over
            the blocks, [batch].
    """

    z: jax.Array
    q: jax.Array
    distance: jax.Array


class CellInputs(NamedTuple):
    """What a cell is a function of beside its state.

    Arguments:
        arrays: Arrays of its block, by name without the block.
        norm: Arrays of its norm.
        probe: Probe of the block.
        end_time: Uniform number that moves the end time (`steer`).
        tpr_times: Times at which the trajectory is seen (`tpr`).
        first: First steps of its solves.
    """

    arrays: Mapping[str, jax.Array]
    norm: Mapping[str, jax.Array]
    probe: jax.Array | None
    end_time: jax.Array | None
    tpr_times: jax.Array | None
    first: FirstSteps


@dataclass(frozen=True)
class Cells:
    """Cells, by their kind: one body serves all that are equal.

    Arguments:
        model: The architecture.
        how: How blocks are solved.
        trace: How the trace is computed; None for z alone.
        integrals: Regularizers that are integrated.
        draws: Times of a solve at which there are other probes.
        training: Norms use the batch, the power iterations turn.
        steer: By how much end times move, or None.
        tpr: Solve in pieces and measure how straight the trajectories are.
    """

    model: ModelSpec
    how: How
    trace: TraceName | None = None
    integrals: tuple[RegularizerName, ...] = ()
    draws: int = 1
    training: bool = False
    steer: float | None = None
    tpr: bool = False

    def forward(
        self, kind: Cell, carry: Carry, own: CellInputs
    ) -> tuple[Carry, tuple[Stats | None, Buffers]]:
        """From data towards base: the state after, what the solves did, the new buffers."""
        stats: Stats | None = None
        buffers: Buffers = {}
        if kind.block:
            carry, stats, buffers = self._block(kind.block, carry, own)
        if self.model.batch_norm and kind.norm:
            done = normed(carry.z, own.norm, self.model.batch_norm, training=self.training)
            q = carry.q.at[:1].add(done.a)
            carry = carry._replace(z=done.y, q=q)
            buffers |= {f"norm/{name}": value for name, value in done.buffers.items()}
        return carry, (stats, buffers)

    def backward(
        self, kind: Cell, carry: tuple[jax.Array, jax.Array], own: CellInputs
    ) -> tuple[tuple[jax.Array, jax.Array], Stats | None]:
        """From base towards data, in evaluation: the state and what a has lost before and after,
        and what the solves did.
        """
        stats = None
        z, q = carry
        if self.model.batch_norm and kind.norm:
            z = denormed(z, own.norm)
            q = q - normed(z, own.norm, self.model.batch_norm, training=False).a
        if kind.block:
            inputs, fixed, _ = self._inputs(own)
            field = Reversed(self._field(kind.block))
            start = InitialValue(rates_of(field), (z, q), inputs, fixed)
            z, q, stats = solve_whole(self.how, start, own.first)
        return (z, q), stats

    def _field(self, block: Block) -> Field:
        if self.trace is None:
            return Velocity(self.model, block)
        return Augmented(self.model, block, self.trace, self.integrals, self.draws)

    def rate(
        self, block: Block, own: CellInputs, s: jax.Array, y: jax.Array
    ) -> tuple[jax.Array, Buffers]:
        """The rate T f(T s, y) at points that are given, s [batch] and y [batch, *shape]; and the
        new buffers.
        """
        inputs, fixed, buffers = self._inputs(own)
        T = fixed.T if inputs.T is None else inputs.T
        if T is None or inputs.arrays is None:
            raise ValueError("a field lacks an input")
        return T * value_at_times(self.model, block, inputs.arrays, T * s, y), buffers

    def _block(self, block: Block, carry: Carry, own: CellInputs) -> tuple[Carry, Stats, Buffers]:
        inputs, fixed, buffers = self._inputs(own)
        field = self._field(block)
        # a goes on; the regularizers of each block are integrated from 0.
        q0 = jnp.concatenate([carry.q[:1], jnp.zeros_like(carry.q[1:])])
        start = InitialValue(
            rates_of(field), (carry.z, q0), inputs, fixed, leaves_for(self.how.solver)
        )
        if not self.tpr:
            z, q, stats = solve_whole(self.how, start, own.first)
            return carry._replace(z=z, q=_gained(carry.q, q)), stats, buffers
        if own.tpr_times is None:
            raise BackendError("the batch has no tpr_times, but the regularizer tpr needs them")
        points, q, stats = solve_pieces(self.how, start, own.first, own.tpr_times)
        starts, _ = pieces(own.tpr_times)
        times = jnp.concatenate([starts, jnp.ones_like(starts[:1])])
        distance = carry.distance + distance_to_line(times, points)
        return Carry(points[-1], _gained(carry.q, q), distance), stats, buffers

    def _inputs(self, own: CellInputs) -> tuple[Inputs, Inputs, Buffers]:
        """Inputs of the field with and without a gradient; new buffers of the power iteration."""
        arrays = dict(own.arrays)
        buffers: Buffers = {}
        T = arrays.pop(SQRT_END_TIME) ** 2
        if self.model.spectral_norm:
            arrays, buffers = divided(arrays, training=self.training)
        if self.steer is not None:
            if own.end_time is None:
                raise BackendError("the batch has no end_time, but the regularizer steer needs it")
            T = T + self.steer * (2 * own.end_time - 1)
        fixed = Inputs(probe=own.probe)
        if self.model.end_time.mode == "trained":
            return Inputs(arrays, T), fixed, buffers
        return Inputs(arrays), fixed._replace(T=T), buffers


def _gained(before: jax.Array, after: jax.Array) -> jax.Array:
    """A after a block, and what the regularizers are with that block's added."""
    return jnp.concatenate([after[:1], before[1:] + after[1:]])
