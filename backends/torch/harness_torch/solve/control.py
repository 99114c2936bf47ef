"""Step-size control: error norms, the first step, the controller (docs/numerics.md, section 1).

The rules and constants are those of torchdiffeq 0.2.5, which the tests compare step for step:
    - next step = step * min(10, max(0.9 ratio^(-1/order), 1 if ratio < 1 else 0.2)), and times 10
      for ratio 0, where `order` is `Tableau.order`: 5 for dopri5 and tsit5, 3 for bosh3;
    - the first step's exponent is 1/order too (torchdiffeq calls its rule with order - 1, and that
      adds 1).
Step sizes are float64 numbers on the host, without gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harness.solvers import TABLEAUX, Tableau
from harness.trial import AdaptiveSolver
from harness_torch.solve.problem import InitialValue, Leaves, Rates

__all__ = ["Norm", "end_weights", "error_norm", "first_step", "next_step", "scaled_norm"]


Norm = Callable[[Tensor, Tensor], float]
"""(u, q) -> size of scaled arrays shaped like the state; waits for the device."""


def error_norm(kind: str, leaves: Leaves) -> Norm:
    """`mixed`: the largest RMS of a leaf; `rms_all`: one RMS over all entries of all leaves."""

    def mixed(u: Tensor, q: Tensor) -> float:
        sizes = [torch.linalg.vector_norm(leaf) / math.sqrt(leaf.numel()) for leaf in leaves(u, q)]
        return float(torch.stack(sizes).max())  # torch's max keeps NaN, Python's may not

    def rms_all(u: Tensor, q: Tensor) -> float:
        parts = leaves(u, q)
        size = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(x) for x in parts]))
        return float(size) / math.sqrt(sum(leaf.numel() for leaf in parts))

    return {"mixed": mixed, "rms_all": rms_all}[kind]


def scaled(error: Tensor, solver: AdaptiveSolver, *states: Tensor) -> Tensor:
    """Error / (atol + rtol * max over the states of |y|)."""
    size = states[0].abs()
    for other in states[1:]:
        size = torch.maximum(size, other.abs())
    return error / size.mul_(solver.rtol).add_(solver.atol)


def scaled_norm(solver: AdaptiveSolver, leaves: Leaves) -> Callable[..., float]:
    """(state, other states...) -> size of the state relative to the tolerances at the others."""
    norm = error_norm(solver.norm, leaves)

    def size(state: Rates, *others: Rates) -> float:
        u, q = leaves.seen(*state)
        us, qs = zip(*(leaves.seen(*other) for other in others), strict=True)
        return norm(scaled(u, solver, *us), scaled(q, solver, *qs))

    return size


def next_step(h: float, ratio: float, tableau: Tableau) -> float:
    """The step to try after one of size `h` with this error ratio; accepted if at most 1."""
    if ratio == 0:
        return 10 * h
    factor = 0.9 * math.pow(ratio, -1 / tableau.order)
    return h * min(10.0, max(factor, 1.0 if ratio < 1 else 0.2))


@torch.no_grad()
def first_step(
    evaluate: Callable[[float, Tensor], Rates],
    problem: InitialValue,
    rates: Rates,
    solver: AdaptiveSolver,
) -> float:
    """The first step in units of s; at most 1, unless the solve may step past it. NaN if the field
    is not finite.

    The heuristic is that of Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I,
    II.4; it costs one evaluation. It is not invariant under a scaling of time, so it works in t,
    as both libraries do: on rates that are divided by the length of the solve in t, with a result
    that is, too.

    Arguments:
        evaluate: (s, u) -> rates.
        problem: What is integrated.
        rates: Those at its start.
        solver: Method and tolerances.
    """
    if solver.first_step == "whole":
        return 1.0
    if isinstance(solver.first_step, float):
        return solver.first_step
    (du, dq), y, length = rates, (problem.u, problem.q), float(problem.length)
    size = scaled_norm(solver, problem.leaves)
    d0, d1 = size(y, y), size(rates, y) / length
    h0 = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    du1, dq1 = evaluate(h0 / length, problem.u + (h0 / length) * du)
    d2 = size((du1 - du, dq1 - dq), y) / length / h0
    if not (math.isfinite(d0) and math.isfinite(d1) and math.isfinite(d2)):
        return math.nan
    largest = max(d1, d2)
    if largest <= 1e-15:
        h1 = max(1e-6, h0 * 1e-3)
    else:
        h1 = math.pow(0.01 / largest, 1 / TABLEAUX[solver.name].order)
    return min(min(100 * h0, h1) / length, 1.0 if solver.end == "stop" else math.inf)


def end_weights(tableau: Tableau, x: float) -> tuple[float, ...]:
    """Weights w of the stages in y(s + x h) = y + h sum_j w_j k_j.

    y is the polynomial of degree 4 through both ends, with their slopes, and through the state
    halfway, y + h sum_j m_j k_j.

    Arguments:
        tableau: An FSAL pair with weights m, `Tableau.middle`.
        x: Place within the step, in [0, 1].
    """
    middle = tableau.middle or ()
    of_end = x**2 * (-5 + x * (14 - 8 * x))
    of_middle = 16 * x**2 * (1 - x) ** 2
    weights = [of_end * b + of_middle * m for b, m in zip(tableau.b, middle, strict=True)]
    weights[0] += x * (1 + x * (-4 + x * (5 - 2 * x)))
    weights[-1] += x**2 * (1 + x * (-3 + 2 * x))
    return tuple(weights)
