"""The flow: its transforms in order, of which the blocks are solves over s in [0, 1] of
dy/ds = T f(T s, y).

log p(x) = log N(z(1); 0, I) - a(1), a the integral of -Tr(df/dz) carried through the blocks
(W. Grathwohl et al., FFJORD, 2018, https://arxiv.org/abs/1810.01367, eq. 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from harness.architecture.transforms import Block, FactorOut, Norm, Shape, transforms
from harness.trial import ModelSpec, RegularizerName, TraceName
from harness_torch.field import Augmented, Velocity
from harness_torch.net.spectral import divided, turned
from harness_torch.net.timed import value_at_times
from harness_torch.noise import Noise, drawn
from harness_torch.norm import denormed, normed
from harness_torch.regularizers import INTEGRANDS
from harness_torch.solve.blocks import BlockCounts, first_failure, solve_pieces
from harness_torch.solve.engines import FirstSteps, How
from harness_torch.solve.problem import Field, InitialValue, Inputs, Reversed, leaves_for
from harness_torch.squeeze import join, split, squeeze, unsqueeze
from harness_torch.trajectory import distance_to_line

__all__ = ["Flow", "Terms", "log_standard_normal"]


class Carry(NamedTuple):
    """What goes from transform to transform.

    Arguments:
        z: State, [batch, ...].
        q: Integrals, [rows, batch]: a, then the regularizers; no rows without the density.
        distance: Squared distance of the trajectories from straight lines (`tpr`), summed over
            the blocks, [batch].
    """

    z: Tensor
    q: Tensor
    distance: Tensor


class Terms(NamedTuple):
    """The end of the flow.

    Arguments:
        z: Base variables, [batch, D].
        a: Integral of -Tr(df/dz), [batch]; zero if it was not integrated.
        penalties: By regularizer, summed over the blocks, [batch].
        counts: One entry a block.
        buffers: In training, buffers after the step, by portable name.
    """

    z: Tensor
    a: Tensor
    penalties: dict[RegularizerName, Tensor]
    counts: list[BlockCounts]
    buffers: dict[str, Tensor]

    @property
    def failure(self) -> str | None:
        """Why a solve stopped early; the arrays are then meaningless."""
        return first_failure(self.counts)


def log_standard_normal(z: Tensor) -> Tensor:
    """Log-density of N(0, I) at each row, [batch]."""
    return -0.5 * (z.square().sum(dim=1) + z.shape[1] * math.log(2 * math.pi))


class Flow:
    """All transforms of a model.

    Arguments:
        model: The architecture.
        event_shape: Shape of an example.
        arrays: All arrays by portable name; those that are trained require a gradient.
        regularizers: Weights by name; of `steer` its number b.
    """

    def __init__(
        self,
        model: ModelSpec,
        event_shape: Shape,
        arrays: Mapping[str, Tensor],
        regularizers: Mapping[RegularizerName, float],
    ) -> None:
        self.transforms = transforms(model, event_shape)
        self.shape = self.transforms[0].shape
        self._model, self._arrays = model, arrays
        self._regularizers = regularizers
        self._integrals = tuple(name for name in INTEGRANDS if name in regularizers)
        # Equal blocks have equal fields, whatever their place.
        self._blocks = [replace(s, index=0) for s in self.transforms if isinstance(s, Block)]
        self._names: dict[str, dict[str, str]] = {}
        for name in arrays:
            transform, _, rest = name.partition("/")
            # The vectors of a power iteration are no arrays of the dynamics.
            if name[-2:] not in ("_u", "_v") or name[:-2] not in arrays:
                self._names.setdefault(transform, {})[rest] = name

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self._blocks)

    def terms(
        self,
        x: Tensor,
        noise: Noise,
        trace: TraceName | None,
        how: How,
        *,
        conditions: Sequence[Tensor | None] = (),
        first: Sequence[FirstSteps] = (),
        draws: int = 1,
        training: bool = False,
        regularize: bool = False,
        log_volume: Tensor | None = None,
    ) -> Terms:
        """Runs x [batch, *shape] through all transforms.

        Arguments:
            x: Data.
            noise: The random numbers.
            trace: How the trace is computed; None for z alone, without the density.
            how: How each block is solved.
            conditions: What each example gives to each block's dynamics (autoencoders).
            first: First steps by block; the solver's rule where there are none.
            draws: Times of a solve at which there are other probes.
            training: Norms use the batch, the power iterations turn, `steer` moves the end times.
            regularize: Carry the regularizers.
            log_volume: What the solves see of the data's preprocessing: a goes from it, negated,
                instead of 0, [batch]. It is taken off a at the end.

        Raises:
            BackendError: A random number is missing.
        """
        buffers = turned(self._arrays) if training and self._model.spectral_norm else {}
        arrays = self._divided(buffers)
        integrals = self._integrals if regularize else ()
        tpr = regularize and "tpr" in self._regularizers
        rows = 0 if trace is None else 1 + len(integrals)
        q = x.new_zeros((rows, len(x)))
        if rows and log_volume is not None:
            q[0] = -log_volume
        carry = Carry(x, q, x.new_zeros(len(x)))
        counts = [BlockCounts() for _ in self._blocks]
        left: list[Tensor] = []
        for transform in self.transforms:
            if isinstance(transform, Block):
                index = transform.index
                times = sorted(drawn(noise.times, "tpr_times", index)) if tpr else ()
                condition = conditions[index] if conditions else None
                inputs = self._inputs(index, arrays, noise, condition, steer=training)
                field = self._field(index, trace, integrals, draws)
                steps = first[index] if first else FirstSteps()
                carry = _solved(how, field, inputs, carry, steps, counts[index], times)
                if counts[index].failure:
                    break
            elif isinstance(transform, Norm):
                carry, updates = self._normed(transform, carry, training=training)
                buffers |= updates
            elif isinstance(transform, FactorOut):
                z, out = split(carry.z)
                carry = carry._replace(z=z)
                left.append(out)
            else:
                carry = carry._replace(z=squeeze(carry.z))
        z = torch.cat([*left, carry.z.flatten(1)], dim=1)
        penalties: dict[RegularizerName, Tensor] = dict(zip(integrals, carry.q[1:], strict=True))
        if tpr:
            penalties["tpr"] = carry.distance
        a = carry.q[0] if rows else torch.zeros_like(carry.distance)
        if rows and log_volume is not None:
            a = a + log_volume
        return Terms(z, a, penalties, counts, buffers)

    def rates(
        self, times: Mapping[int, Tensor], points: Mapping[int, Tensor]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The rate T f(T s, y) of each block, as in a training step, but at points that are given.

        Arguments:
            times: By block, the s of each example, [batch].
            points: By block, the y of each example, [batch, ...].

        Returns:
            Rates in the shape of each block's state, and the buffers after the step.
        """
        buffers = turned(self._arrays) if self._model.spectral_norm else {}
        arrays = self._divided(buffers)
        rates = []
        for index, block in enumerate(self._blocks):
            inputs = self._inputs(index, arrays, Noise(), None, steer=False)
            y, t = points[index].view(-1, *block.shape), inputs.T * times[index]
            rates.append(inputs.T * value_at_times(self._model, block, inputs.arrays, t, y))
        return rates, buffers

    @torch.no_grad()
    def inverse(
        self, base: Tensor, noise: Noise, trace: TraceName | None, how: How, draws: int = 1
    ) -> tuple[Tensor, Tensor, list[BlockCounts]]:
        """Maps base variables [batch, D] to x [batch, *shape].

        After a solve that failed both are meaningless.

        Arguments:
            base: The base variables.
            noise: The random numbers.
            trace: How the trace is computed; None for x alone, without the density. The error
                norm is then over the state alone.
            how: How each block is solved.
            draws: Times of a solve at which there are other probes.

        Returns:
            x; a as in `Terms`, zero without the density; one entry a block.
        """
        arrays = self._divided({})
        counts = [BlockCounts() for _ in self._blocks]
        sizes = [math.prod(s.shape) // 2 for s in self.transforms if isinstance(s, FactorOut)]
        *left, last = torch.split(base, [*sizes, base.shape[1] - sum(sizes)], dim=1)
        x = last.reshape(len(base), *self._blocks[-1].shape)
        # What a loses on the way back.
        q = base.new_zeros((0 if trace is None else 1, len(base)))
        for transform in reversed(self.transforms):
            if isinstance(transform, Block):
                index = transform.index
                field = Reversed(self._field(index, trace, (), draws))
                inputs = self._inputs(index, arrays, noise, None, steer=False)
                start = InitialValue(field, inputs, x, q)
                states, q = solve_pieces(how, start, FirstSteps(), counts[index])
                x = states[-1]
                if counts[index].failure:
                    break
            elif isinstance(transform, Norm):
                x, q = self._denormed(transform, x, q)
            elif isinstance(transform, FactorOut):
                x = join(x, left.pop())
            else:
                x = unsqueeze(x)
        return x, -q[0] if len(q) else base.new_zeros(len(base)), counts

    def _field(
        self,
        index: int,
        trace: TraceName | None,
        integrals: tuple[RegularizerName, ...],
        draws: int,
    ) -> Field:
        block = self._blocks[index]
        if trace is None:
            return Velocity(self._model, block)
        return Augmented(self._model, block, trace, integrals, draws)

    def _inputs(
        self,
        index: int,
        arrays: Mapping[str, Tensor],
        noise: Noise,
        condition: Tensor | None,
        *,
        steer: bool,
    ) -> Inputs:
        """What one block's dynamics are a function of; a condition counts as one of its arrays."""
        own = self._of(f"block{index}", arrays)
        T = own.pop("sqrt_end_time").square()
        if steer and "steer" in self._regularizers:
            u = drawn(noise.end_times, "end_time", index)
            T = T + self._regularizers["steer"] * (2 * u - 1)
        if "swish_beta" in arrays:
            own["swish_beta"] = arrays["swish_beta"]
        if condition is not None:
            own["condition"] = condition
        return Inputs(own, T, noise.probes.get(index), T.new_zeros(()), T.new_ones(()))

    def _normed(
        self, norm: Norm, carry: Carry, *, training: bool
    ) -> tuple[Carry, dict[str, Tensor]]:
        """The state after a norm, and its new buffers by portable name."""
        if self._model.batch_norm is None:
            raise ValueError("a norm in a model without one")
        prefix = f"norm{norm.index}"
        own = self._of(prefix, self._arrays)
        done = normed(carry.z, own, self._model.batch_norm, training=training)
        carry = carry._replace(z=done.y, q=torch.cat([carry.q[:1] + done.a, carry.q[1:]]))
        return carry, {f"{prefix}/{name}": value for name, value in done.buffers.items()}

    def _denormed(self, norm: Norm, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """The state before a norm, and what a has lost, in evaluation."""
        if self._model.batch_norm is None:
            raise ValueError("a norm in a model without one")
        own = self._of(f"norm{norm.index}", self._arrays)
        x = denormed(x, own)
        return x, q - normed(x, own, self._model.batch_norm, training=False).a

    def _divided(self, buffers: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The arrays that the dynamics see; with `buffers` in place of the stored ones."""
        if not self._model.spectral_norm:
            return self._arrays
        return divided({**self._arrays, **buffers})

    def _of(self, transform: str, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The arrays of one transform, by name without it."""
        return {rest: arrays[name] for rest, name in self._names[transform].items()}


def _solved(
    how: How,
    field: Field,
    inputs: Inputs,
    carry: Carry,
    first: FirstSteps,
    counts: BlockCounts,
    times: Sequence[float],
) -> Carry:
    """The state after a block. Of `tpr` the trajectory is seen at 0, `times` and 1."""
    # a goes on; the regularizers of each block are integrated from 0.
    q0 = torch.cat([carry.q[:1], torch.zeros_like(carry.q[1:])])
    start = InitialValue(field, inputs, carry.z, q0, leaves_for(how.solver))
    states, q = solve_pieces(how, start, first, counts, times)
    carry = carry._replace(z=states[-1], q=torch.cat([q[:1], carry.q[1:] + q[1:]]))
    if not times or counts.failure:
        return carry
    distance = distance_to_line((0.0, *times, 1.0), states)
    return carry._replace(distance=carry.distance + distance)
