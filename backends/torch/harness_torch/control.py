"""Step-size control: error norms, the first step, the controller (docs/numerics.md, section 1).

The rules and constants are those of torchdiffeq 0.2.5, which the tests compare step for step:
    - next step = step * min(10, max(0.9 ratio^(-1/order), 1 if ratio < 1 else 0.2)), and times 10
      for ratio 0, where `order` is `Tableau.order`: 5 for dopri5 and tsit5, 3 for bosh3;
    - the first step's exponent is 1/order too (torchdiffeq calls its rule with order - 1, and that
      adds 1).
Step sizes are float64 numbers on the host, without gradient.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.solvers import TABLEAUX, Tableau
from harness.trial import AdaptiveSolver

__all__ = [
    "BoundField",
    "Field",
    "Inputs",
    "Leaves",
    "Norm",
    "Rates",
    "error_norm",
    "first_step",
    "next_step",
    "scaled",
    "time_like",
]

Rates = tuple[Tensor, Tensor]
"""du/ds and dq/ds of a state: `u`, the variables the right-hand side depends on, and `q`,
integrals along their path."""

BoundField = Callable[[Tensor, Tensor], Rates]
"""(s, u) -> (du/ds, dq/ds); s is 0-dimensional, in the state's precision."""


class Inputs(NamedTuple):
    """All tensors that the dynamics of a block depend on, beside time and state.

    Arguments:
        arrays: The block's arrays by portable name without the block, e.g. `layer0/weight`.
        T: End time, 0-dimensional.
        probe: Random directions, fixed within a solve; None if nothing needs them.
        start: Start of the piece of the block that a solve covers, 0-dimensional, in [0, 1].
        span: Length of that piece: s in [0, 1] of the solve is start + span s of the block.
    """

    arrays: Mapping[str, Tensor]
    T: Tensor
    probe: Tensor | None
    start: Tensor
    span: Tensor


class Field(abc.ABC):
    """A right-hand side as a function of its inputs, (inputs, s, u) -> (du/ds, dq/ds).

    Subclasses are frozen dataclasses of static facts alone: what is compiled for one field serves
    every equal one. `inputs` is a tuple of tensors, for the dynamics of a block `Inputs`.
    """

    @abc.abstractmethod
    def bind(self, inputs: Any) -> BoundField:  # noqa: ANN401
        """Computes once what depends on the inputs alone; differentiable in them."""

    def __call__(self, inputs: Any, s: Tensor, u: Tensor) -> Rates:  # noqa: ANN401
        """One evaluation."""
        return self.bind(inputs)(s, u)


Leaves = Callable[[Tensor, Tensor], Sequence[Tensor]]
"""(u, q) -> the leaves that the error norm sees."""

Norm = Callable[[Tensor, Tensor], float]
"""(u, q) -> size of scaled arrays shaped like the state; waits for the device."""


def error_norm(kind: str, leaves: Leaves) -> Norm:
    """`mixed`: the largest RMS of a leaf; `rms_all`: one RMS over all entries of all leaves."""

    def mixed(u: Tensor, q: Tensor) -> float:
        sizes = [torch.linalg.vector_norm(leaf) / math.sqrt(leaf.numel()) for leaf in leaves(u, q)]
        return float(torch.stack(sizes).max())  # torch's max keeps NaN, Python's may not

    def rms_all(u: Tensor, q: Tensor) -> float:
        found = leaves(u, q)
        size = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(x) for x in found]))
        return float(size) / math.sqrt(sum(leaf.numel() for leaf in found))

    return {"mixed": mixed, "rms_all": rms_all}[kind]


def time_like(s: float, u: Tensor) -> Tensor:
    """S as the 0-dimensional tensor that fields take, on the device of u; waits for nothing."""
    return torch.full((), s, dtype=u.dtype, device=u.device)


def scaled(error: Tensor, solver: AdaptiveSolver, *states: Tensor) -> Tensor:
    """Error / (atol + rtol * max over the states of |y|)."""
    size = states[0].abs()
    for other in states[1:]:
        size = torch.maximum(size, other.abs())
    return error / size.mul_(solver.rtol).add_(solver.atol)


def next_step(h: float, ratio: float, tableau: Tableau) -> float:
    """The step to try after one of size `h` with this error ratio; accepted if at most 1."""
    if ratio == 0:
        return 10 * h
    factor = 0.9 * math.pow(ratio, -1 / tableau.order)
    return h * min(10.0, max(factor, 1.0 if ratio < 1 else 0.2))


@torch.no_grad()
def first_step(
    evaluate: Callable[[float, Tensor], Rates],
    u: Tensor,
    q: Tensor,
    rates: Rates,
    solver: AdaptiveSolver,
    norm: Norm,
) -> float:
    """The first step in units of s; at most 1, unless the solve may step past it. NaN if the field
    is not finite.

    The heuristic is that of Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I,
    II.4; it costs one evaluation.
    """
    if solver.first_step == "whole":
        return 1.0
    if isinstance(solver.first_step, float):
        return solver.first_step
    du, dq = rates
    d0 = norm(scaled(u, solver, u), scaled(q, solver, q))
    d1 = norm(scaled(du, solver, u), scaled(dq, solver, q))
    h0 = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    du1, dq1 = evaluate(h0, u + h0 * du)
    d2 = norm(scaled(du1 - du, solver, u), scaled(dq1 - dq, solver, q)) / h0
    if not (math.isfinite(d0) and math.isfinite(d1) and math.isfinite(d2)):
        return math.nan
    largest = max(d1, d2)
    if largest <= 1e-15:
        h1 = max(1e-6, h0 * 1e-3)
    else:
        h1 = math.pow(0.01 / largest, 1 / TABLEAUX[solver.name].order)
    return min(100 * h0, h1, 1.0 if solver.end == "stop" else math.inf)
