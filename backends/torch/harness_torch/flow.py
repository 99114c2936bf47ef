"""The flow: its stages in order, of which the blocks are solves over s in [0, 1] of
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

from harness.architecture.transforms import Block, FactorOut, Norm, Shape, stages
from harness.trial import ModelSpec, RegularizerName, TraceName
from harness_torch.field import Augmented, Velocity
from harness_torch.net.spectral import divided, turned
from harness_torch.noise import Noise, drawn
from harness_torch.norm import Normed, denormed, normed
from harness_torch.regularizers import INTEGRANDS
from harness_torch.solve.blocks import BlockCounts, solve_pieces
from harness_torch.solve.engines import FirstSteps, How
from harness_torch.solve.problem import Field, InitialValue, Inputs, Reversed, leaves_for
from harness_torch.squeeze import join, split, squeeze, unsqueeze
from harness_torch.trajectory import distance_to_line

__all__ = ["Flow", "Terms", "log_standard_normal"]


class Terms(NamedTuple):
    """The end of the flow.

    Arguments:
        z: Base variables, [batch, D].
        a: Integral of -Tr(df/dz), [batch].
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
        return next((counts.failure for counts in self.counts if counts.failure), None)


def log_standard_normal(z: Tensor) -> Tensor:
    """Log-density of N(0, I) at each row, [batch]."""
    return -0.5 * (z.square().sum(dim=1) + z.shape[1] * math.log(2 * math.pi))


class Flow:
    """All stages of a model.

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
        self.stages = stages(model, event_shape)
        self.shape = next(stage.shape for stage in self.stages)
        self._model, self._arrays = model, arrays
        self._regularizers = regularizers
        self._integrals = tuple(name for name in INTEGRANDS if name in regularizers)
        # Equal blocks have equal fields, whatever their place.
        self._blocks = [replace(s, index=0) for s in self.stages if isinstance(s, Block)]
        self._names: dict[str, dict[str, str]] = {}
        for name in arrays:
            stage, _, rest = name.partition("/")
            # The vectors of a power iteration are no arrays of the dynamics.
            if name[-2:] not in ("_u", "_v") or name[:-2] not in arrays:
                self._names.setdefault(stage, {})[rest] = name

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
        training: bool = False,
        regularize: bool = False,
    ) -> Terms:
        """Runs x [batch, *shape] through all stages.

        Arguments:
            x: Data.
            noise: The random numbers.
            trace: How the trace is computed; None for z alone, without the density.
            how: How each block is solved.
            conditions: What each example gives to each block's dynamics (autoencoders).
            first: First steps by block; the solver's rule where there are none.
            training: Norms use the batch, the power iterations turn, `steer` moves the end times.
            regularize: Carry the regularizers as well.

        Raises:
            BackendError: A random number is missing.
        """
        buffers = turned(self._arrays) if training and self._model.spectral_norm else {}
        arrays = self._divided(buffers)
        integrals = self._integrals if regularize else ()
        tpr = regularize and "tpr" in self._regularizers
        q = x.new_zeros((0 if trace is None else 1 + len(integrals), len(x)))
        bent = x.new_zeros(len(x))
        counts = [BlockCounts() for _ in self._blocks]
        z, left = x, []
        for stage in self.stages:
            if isinstance(stage, Block):
                index = stage.index
                times = sorted(drawn(noise.times, "tpr_times", index)) if tpr else ()
                condition = conditions[index] if conditions else None
                inputs = self._inputs(index, arrays, noise, condition, steer=training)
                start = InitialValue(
                    self._field(index, trace, integrals),
                    inputs,
                    z,
                    # a goes on; the regularizers of each block are integrated from 0.
                    torch.cat([q[:1], torch.zeros_like(q[1:])]),
                    leaves_for(how.solver),
                )
                steps = first[index] if first else FirstSteps()
                states, gained = solve_pieces(how, start, steps, counts[index], times)
                z, q = states[-1], torch.cat([gained[:1], q[1:] + gained[1:]])
                if counts[index].failure:
                    break
                if tpr:
                    bent = bent + distance_to_line((0.0, *times, 1.0), states)
            elif isinstance(stage, Norm):
                z, a, updates = self._normed(stage, z, training=training)
                q = torch.cat([q[:1] + a, q[1:]])
                buffers |= updates
            elif isinstance(stage, FactorOut):
                z, out = split(z)
                left.append(out)
            else:
                z = squeeze(z)
        base = torch.cat([*left, z.flatten(1)], dim=1)
        penalties: dict[RegularizerName, Tensor] = dict(zip(integrals, q[1:], strict=True))
        if tpr:
            penalties["tpr"] = bent
        a = bent.new_zeros(len(x)) if trace is None else q[0]
        return Terms(base, a, penalties, counts, buffers)

    @torch.no_grad()
    def inverse(self, base: Tensor, how: How) -> tuple[Tensor, list[BlockCounts]]:
        """Maps base variables [batch, D] to x [batch, *shape], without the density.

        The error norm is over the state alone. After a solve that failed x is meaningless.
        """
        arrays = self._divided({})
        counts = [BlockCounts() for _ in self._blocks]
        sizes = [math.prod(s.shape) // 2 for s in self.stages if isinstance(s, FactorOut)]
        *left, last = torch.split(base, [*sizes, base.shape[1] - sum(sizes)], dim=1)
        x, none = last.reshape(len(base), *self._blocks[-1].shape), base.new_zeros((0, len(base)))
        for stage in reversed(self.stages):
            if isinstance(stage, Block):
                index = stage.index
                field = Reversed(self._field(index, None, ()))
                inputs = self._inputs(index, arrays, Noise(), None, steer=False)
                start = InitialValue(field, inputs, x, none)
                states, _ = solve_pieces(how, start, FirstSteps(), counts[index])
                x = states[-1]
                if counts[index].failure:
                    break
            elif isinstance(stage, Norm):
                x = denormed(x, self._of(f"norm{stage.index}", self._arrays))
            elif isinstance(stage, FactorOut):
                x = join(x, left.pop())
            else:
                x = unsqueeze(x)
        return x, counts

    def _field(
        self, index: int, trace: TraceName | None, integrals: tuple[RegularizerName, ...]
    ) -> Field:
        block = self._blocks[index]
        if trace is None:
            return Velocity(self._model, block)
        return Augmented(self._model, block, trace, integrals)

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

    def _normed(self, stage: Norm, z: Tensor, *, training: bool) -> Normed:
        """What a norm does; its new buffers by portable name."""
        if self._model.batch_norm is None:
            raise ValueError("a norm in a model without one")
        prefix = f"norm{stage.index}"
        own = self._of(prefix, self._arrays)
        y, a, buffers = normed(z, own, self._model.batch_norm, training=training)
        return Normed(y, a, {f"{prefix}/{name}": value for name, value in buffers.items()})

    def _divided(self, buffers: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The arrays that the dynamics see; with `buffers` in place of the stored ones."""
        if not self._model.spectral_norm:
            return self._arrays
        return divided({**self._arrays, **buffers})

    def _of(self, stage: str, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The arrays of one stage, by name without the stage."""
        return {rest: arrays[name] for rest, name in self._names[stage].items()}
