"""The flow: stacked blocks, each a solve over s in [0, 1] of dy/ds = T f(T s, y).

log p(x) = log N(z(1); 0, I) - a(1), a the integral of -Tr(df/dz) carried through the blocks
(W. Grathwohl et al., FFJORD, 2018, https://arxiv.org/abs/1810.01367, eq. 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from harness.trial import GradientName, ModelSpec, RegularizerName, SolverSpec, TraceName
from harness_torch.control import Field, Inputs
from harness_torch.dynamics import Augmented, Velocity
from harness_torch.gradients import Counts, solve_block
from harness_torch.solve import Reversed, Solve

__all__ = ["Flow", "Terms", "log_standard_normal"]

SQRT_END_TIME = "sqrt_end_time"


class Terms(NamedTuple):
    """The end of the flow.

    Arguments:
        z: Base variables, [batch, D].
        a: Integral of -Tr(df/dz), [batch].
        r: Integrals of the regularizers, [regularizers, batch].
        counts: One entry a block.
        failure: Why a solve stopped early; the arrays are then meaningless.
    """

    z: Tensor
    a: Tensor
    r: Tensor
    counts: list[Counts]
    failure: str | None


def log_standard_normal(z: Tensor) -> Tensor:
    """Log-density of N(0, I) at each row, [batch]."""
    return -0.5 * (z.square().sum(dim=1) + z.shape[1] * math.log(2 * math.pi))


@dataclass(frozen=True)
class Flow:
    """All blocks of a model.

    Arguments:
        model: The architecture.
        arrays: All arrays by portable name; those that are trained require a gradient.
        regularizers: Names of the integrals to carry, in the order of `Terms.r`.
        solve: The engine.
    """

    model: ModelSpec
    arrays: Mapping[str, Tensor]
    regularizers: Sequence[RegularizerName]
    solve: Solve

    def log_prob_terms(
        self,
        x: Tensor,
        probes: Mapping[str, Tensor],
        solver: SolverSpec,
        trace: TraceName,
        *,
        mode: GradientName | None = None,
        regularize: bool = False,
    ) -> Terms:
        """Runs x [batch, D] through all blocks with the divergence.

        Arguments:
            x: Data.
            probes: `probe/<block>` [batch, D], where trace or regularizers need it.
            solver: Method and tolerances.
            trace: `exact` or `hutchinson`.
            mode: Gradient mode; None for no gradient.
            regularize: Carry the regularizer integrals as well.

        Raises:
            BackendError: A probe is missing.
        """
        names = self.regularizers if regularize else ()
        q = x.new_zeros((1 + len(names), len(x)))
        counts = [Counts() for _ in range(self.model.blocks)]
        z = x
        for index, count in enumerate(counts):
            inputs = self._inputs(index, probes.get(f"probe/{index}"))
            field = Augmented(self.model.layer, self.model.nonlinearity, trace, tuple(names))
            z, q = solve_block(field, inputs, z, q, solver, mode, count, self.solve)
            if count.failure:
                return Terms(z, q[0], q[1:], counts, count.failure)
        return Terms(z, q[0], q[1:], counts, None)

    @torch.no_grad()
    def transport(self, z: Tensor, solver: SolverSpec, *, inverse: bool) -> Terms:
        """Maps x to z, or with `inverse` z to x, without the density; the norm is over z alone."""
        counts = [Counts() for _ in range(self.model.blocks)]
        none = z.new_zeros((0, len(z)))
        failure = None
        field: Field = Velocity(self.model.layer, self.model.nonlinearity)
        if inverse:
            field = Reversed(field)
        for index in reversed(range(len(counts))) if inverse else range(len(counts)):
            inputs = self._inputs(index, None)
            solution = self.solve(field, inputs, z, none, solver, _state_alone)
            counts[index].add_forward(solution)
            z, failure = solution.u, solution.failure
            if failure:
                break
        return Terms(z, none, none, counts, failure)

    def _inputs(self, block: int, probe: Tensor | None) -> Inputs:
        """What one block's dynamics are a function of."""
        prefix = f"block{block}/"
        arrays = {
            k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)
        }
        T = arrays.pop(SQRT_END_TIME).square()
        return Inputs(arrays, T, probe, T.new_zeros(()), T.new_ones(()))


def _state_alone(u: Tensor, q: Tensor) -> Sequence[Tensor]:
    """The error norm of a solve without integrals."""
    return (u,)
