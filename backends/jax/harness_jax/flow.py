"""The flow: its transforms in order, of which the blocks are solves over s in [0, 1] of
dy/ds = T f(T s, y).

log p(x) = log N(z(1); 0, I) - a(1), a the integral of -Tr(df/dz) carried through the blocks
(W. Grathwohl et al., FFJORD, 2018, https://arxiv.org/abs/1810.01367, eq. 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from harness.architecture.noise import PATH_TIME
from harness.architecture.transforms import FactorOut, Shape, Squeeze
from harness.trial import ModelSpec, RegularizerName, TraceName
from harness_jax.cells import Carry, CellInputs, Cells
from harness_jax.net.net import BETA, CONDITION
from harness_jax.regularizers import INTEGRANDS
from harness_jax.runs import Part, Run, parts
from harness_jax.solve.counts import Stats
from harness_jax.solve.engines import FirstSteps, How
from harness_jax.squeeze import join, split, squeeze, unsqueeze

__all__ = ["Flow", "Terms", "log_standard_normal"]

Stacked = Mapping[str, jax.Array]


class Terms(NamedTuple):
    """The end of the flow.

    Arguments:
        z: Base variables, [batch, D].
        a: Integral of -Tr(df/dz), [batch]; zero if it was not integrated.
        penalties: By regularizer, summed over the blocks, [batch].
        stats: What the solves did; entries [blocks].
        buffers: In training, buffers after the step, by name on the device.
    """

    z: jax.Array
    a: jax.Array
    penalties: dict[str, jax.Array]
    stats: Stats
    buffers: dict[str, jax.Array]


def log_standard_normal(z: jax.Array) -> jax.Array:
    """Log-density of N(0, I) at each row, [batch]."""
    return -0.5 * (jnp.sum(z * z, axis=1) + z.shape[1] * math.log(2 * math.pi))


@dataclass(frozen=True)
class Flow:
    """All transforms of a model, apart from their arrays.

    Arguments:
        model: The architecture.
        event_shape: Shape of an example.
        regularizers: Weights by name; of `steer` its number b.
    """

    model: ModelSpec
    event_shape: Shape
    regularizers: Mapping[RegularizerName, float]

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """From data to base."""
        return parts(self.model, self.event_shape)

    @cached_property
    def shape(self) -> Shape:
        """Shape of the state at the data's end."""
        if self.model.posterior is not None:
            return (self.model.posterior.latent,)
        if self.model.strides is None:
            return (math.prod(self.event_shape),)
        return self.event_shape

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return sum(len(part.blocks) for part in self.parts if isinstance(part, Run))

    @property
    def solves(self) -> int:
        """Solves of a block in training."""
        return 3 if "tpr" in self.regularizers else 1

    @property
    def penalties(self) -> tuple[RegularizerName, ...]:
        """Regularizers that are terms of the loss, in the order of their weights."""
        return tuple(name for name in self.regularizers if name != "steer")

    def terms(
        self,
        arrays: Stacked,
        x: jax.Array,
        noise: Stacked,
        trace: TraceName | None,
        how: How,
        *,
        conditions: Sequence[jax.Array | None] = (),
        first: FirstSteps | None = None,
        draws: int = 1,
        training: bool = False,
        regularize: bool = False,
        log_volume: jax.Array | None = None,
    ) -> Terms:
        """Runs x [batch, *shape] through all transforms.

        Arguments:
            arrays: All arrays, stacked by run.
            x: Data.
            noise: `<run>/probe`, `<run>/end_time`, `<run>/tpr_times`, stacked by run.
            trace: How the trace is computed; None for z alone, without the density.
            how: How each block is solved.
            conditions: What each example gives to each block's dynamics (autoencoders).
            first: First steps, [blocks] each, and ledger, [blocks, solves, 3].
            draws: Times of a solve at which there are other probes.
            training: Norms use the batch, the power iterations turn, `steer` moves the end times.
            regularize: Carry the regularizers.
            log_volume: What the solves see of the data's preprocessing: a goes from it, negated,
                instead of 0, [batch]. It is taken off a at the end.
        """
        integrals = tuple(n for n in INTEGRANDS if regularize and n in self.regularizers)
        tpr = regularize and "tpr" in self.regularizers
        steer = self.regularizers.get("steer") if training else None
        cells = Cells(self.model, how, trace, integrals, draws, training, steer, tpr)
        rows = 0 if trace is None else 1 + len(integrals)
        q = jnp.zeros((rows, len(x)), x.dtype)
        if rows and log_volume is not None:
            q = q.at[0].set(-log_volume)
        carry = Carry(x, q, jnp.zeros(len(x), x.dtype))
        left: list[jax.Array] = []
        stats: list[Stats] = []
        buffers: dict[str, jax.Array] = {}
        for part in self.parts:
            if isinstance(part, Run):
                own = self._inputs(part, arrays, noise, first or FirstSteps(), conditions)
                forward = partial(cells.forward, part.kind)
                carry, (gained, new) = lax.scan(forward, carry, own)
                stats += [gained] if gained is not None else []
                buffers |= {f"{part.name}/{name}": value for name, value in new.items()}
            elif isinstance(part, Squeeze):
                carry = carry._replace(z=squeeze(carry.z))
            else:
                z, out = split(carry.z)
                carry = carry._replace(z=z)
                left.append(out)
        z = jnp.concatenate([*left, carry.z.reshape(len(x), -1)], axis=1)
        penalties = dict(zip(integrals, carry.q[1:], strict=True)) if rows else {}
        if tpr:
            penalties["tpr"] = carry.distance
        a = carry.q[0] if rows else jnp.zeros_like(carry.distance)
        if rows and log_volume is not None:
            a = a + log_volume
        return Terms(z, a, penalties, _joined(stats), buffers)

    def rates(
        self, arrays: Stacked, noise: Stacked, how: How
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The rate T f(T s, y) of each block, as in a training step, but at points that are given.

        Arguments:
            arrays: All arrays, stacked by run.
            noise: `<run>/path_time` s [cells, batch] and `<run>/point` y [cells, batch, *shape].
            how: How blocks are solved, which nothing here asks.

        Returns:
            Rates [blocks, batch, *shape], and the buffers after the step. Without scales all
            blocks have one shape.
        """
        cells = Cells(self.model, how, training=True)
        of_runs: list[jax.Array] = []
        buffers: dict[str, jax.Array] = {}
        for part in self.parts:
            if not isinstance(part, Run) or part.kind.block is None:
                raise ValueError("flow matching is for flows of blocks alone")
            block, name = part.kind.block, part.name
            own = self._inputs(part, arrays, {}, FirstSteps())
            given = own, noise[f"{name}/{PATH_TIME}"], noise[f"{name}/point"]
            rates, new = lax.map(lambda each, block=block: cells.rate(block, *each), given)
            of_runs.append(rates)
            buffers |= {f"{name}/{buffer}": value for buffer, value in new.items()}
        return jnp.concatenate(of_runs), buffers

    def inverse(
        self,
        arrays: Stacked,
        base: jax.Array,
        noise: Stacked,
        trace: TraceName | None,
        how: How,
        draws: int = 1,
    ) -> tuple[jax.Array, jax.Array, Stats]:
        """Maps base variables [batch, D] to x [batch, *shape].

        Arguments:
            arrays: All arrays, stacked by run.
            base: The base variables.
            noise: As in `terms`.
            trace: How the trace is computed; None for x alone, without the density. The error
                norm is then over the state alone.
            how: How each block is solved.
            draws: Times of a solve at which there are other probes.

        Returns:
            x; a as in `Terms`, zero without the density; entries [blocks].
        """
        shapes = [part.shape for part in self.parts if isinstance(part, FactorOut)]
        ends = [sum(math.prod(s) // 2 for s in shapes[: i + 1]) for i in range(len(shapes))]
        *left, x = jnp.split(base, ends, axis=1)
        x = x.reshape(len(base), *self._last_shape())
        # What a loses on the way back.
        q = jnp.zeros((0 if trace is None else 1, len(base)), base.dtype)
        stats: list[Stats] = []
        for part in reversed(self.parts):
            if isinstance(part, Run):
                own = self._inputs(part, arrays, noise, FirstSteps())
                backward = partial(Cells(self.model, how, trace, draws=draws).backward, part.kind)
                (x, q), gained = lax.scan(backward, (x, q), own, reverse=True)
                stats = ([gained] if gained is not None else []) + stats
            elif isinstance(part, Squeeze):
                x = unsqueeze(x)
            else:
                x = join(x, left.pop())
        return x, -q[0] if len(q) else jnp.zeros_like(base[:, 0]), _joined(stats)

    def _last_shape(self) -> Shape:
        last = self.parts[-1]
        if not isinstance(last, Run) or last.kind.block is None:
            raise ValueError("a flow ends with a block")
        return last.kind.block.shape

    def _inputs(
        self,
        run: Run,
        arrays: Stacked,
        noise: Stacked,
        first: FirstSteps,
        conditions: Sequence[jax.Array | None] = (),
    ) -> CellInputs:
        """What the cells of a run are functions of, stacked over them; a condition counts as one
        of their arrays.
        """
        prefix, norm = f"{run.name}/", f"{run.name}/norm/"
        own = {
            name.removeprefix(prefix): array
            for name, array in arrays.items()
            if name.startswith(prefix) and not name.startswith(norm)
        }
        if BETA in arrays and own:
            own[BETA] = jnp.broadcast_to(arrays[BETA], (len(run.cells),))
        given = [conditions[index] for index in run.blocks] if conditions else []
        present = [condition for condition in given if condition is not None]
        if present:
            own[CONDITION] = jnp.stack(present)
        own_blocks = slice(run.blocks.start, run.blocks.stop)
        return CellInputs(
            arrays=own,
            norm={n.removeprefix(norm): a for n, a in arrays.items() if n.startswith(norm)},
            probe=noise.get(f"{prefix}probe"),
            end_time=noise.get(f"{prefix}end_time"),
            tpr_times=noise.get(f"{prefix}tpr_times"),
            first=jax.tree.map(lambda entries: entries[own_blocks], first)
            if run.blocks
            else FirstSteps(),
        )


def _joined(stats: list[Stats]) -> Stats:
    """Entries [blocks] from those of each run."""
    joined: Stats = jax.tree.map(lambda *entries: jnp.concatenate(entries), *stats)
    return joined
