"""A Runge-Kutta solve under the control of docs/numerics.md, section 1, in plain numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.conformance.oracle.field import Float
from harness.solvers import TABLEAUX, Tableau
from harness.trial import AdaptiveSolver, FixedSolver, SolverSpec

__all__ = ["Solution", "State", "solve", "solve_pairs"]

State = tuple[Float, Float]
"""z, and the integrals [1 + regularizers, batch], of which the first is a."""

Rate = Callable[[float, State], State]


@dataclass
class Solution:
    """The end of a solve and the steps it took, which another solve can be made to repeat.

    Arguments:
        steps: Start and size of each accepted step; the last may pass the end.
        rejected: Number of rejected ones.
        proposed: The step proposed at the end, before any was cut to land.
        end: The state.
    """

    end: State
    steps: list[tuple[float, float]] = field(default_factory=list)
    rejected: int = 0
    proposed: float = 0.0

    @property
    def largest(self) -> float:
        """The largest accepted step."""
        return max(h for _, h in self.steps)


def _moved(y: State, h: float, weights: Sequence[float] | Float, ks: Sequence[State]) -> State:
    z, q = y
    for weight, (dz, dq) in zip(weights, ks, strict=True):
        z, q = z + h * weight * dz, q + h * weight * dq
    return z, q


def _stages(
    rate: Rate, tableau: Tableau, s: float, h: float, y: State, first: State
) -> list[State]:
    """All stages of a step, given the first."""
    ks = [first]
    for c, a in zip(tableau.c[1:], tableau.a[1:], strict=True):
        ks.append(rate(s + c * h, _moved(y, h, a, ks)))
    return ks


def _interpolating(tableau: Tableau, x: float) -> Float:
    """Weights of the stages in the state at x of a step: of the polynomial of degree 4 that has
    the states at 0, 1/2 and 1, and the rates at 0 and 1.
    """
    assert tableau.middle is not None
    powers = np.arange(5)
    states = np.array([0.0, 0.5, 1.0])[:, None] ** powers
    rates = powers * np.array([0.0, 1.0])[:, None] ** np.maximum(powers - 1, 0)
    coefficients = np.linalg.inv(np.concatenate([states, rates]))
    first, last = np.eye(tableau.stages)[[0, -1]]
    given = [np.zeros(tableau.stages), tableau.middle, tableau.b, first, last]
    return np.asarray(x**powers @ coefficients @ np.stack(given))


def _rms(values: Float) -> float:
    return math.sqrt(float(np.mean(values**2)))


def _size(solver: AdaptiveSolver, y: State, *others: State) -> float:
    """The norm of a state scaled by the tolerances at others; regularizers enter as batch means
    if they do.
    """

    def seen(state: State) -> list[Float]:
        z, q = state
        means = [np.mean(row) for row in q[1:]] if solver.regularizers_in_norm else []
        return [z, q[:1], *(np.array([mean]) for mean in means)]

    scaled = []
    for value, *at in zip(seen(y), *map(seen, others), strict=True):
        scaled.append(value / (solver.atol + solver.rtol * np.max(np.abs(at), axis=0)))
    if solver.norm == "mixed":
        return max(_rms(leaf) for leaf in scaled)
    return _rms(np.concatenate([leaf.ravel() for leaf in scaled]))


def _heuristic(rate: Rate, solver: AdaptiveSolver, y: State, k: State, length: float) -> float:
    """Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.4, in t."""
    d0, d1 = _size(solver, y, y), _size(solver, k, y) / length
    h0 = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    other = rate(h0 / length, _moved(y, h0 / length, (1.0,), [k]))
    d2 = _size(solver, (other[0] - k[0], other[1] - k[1]), y) / length / h0
    largest = max(d1, d2)
    order = TABLEAUX[solver.name].order
    h1 = max(1e-6, 1e-3 * h0) if largest <= 1e-15 else (0.01 / largest) ** (1 / order)
    longest = 1.0 if solver.end == "stop" else math.inf
    return min(100 * h0 / length, h1 / length, longest)


def solve(
    rate: Rate,
    y: State,
    solver: SolverSpec,
    *,
    first: float | None = None,
    length: float = 1.0,
    repeat: Solution | None = None,
) -> Solution:
    """Integrates over s in [0, 1].

    Arguments:
        rate: (s, state) -> d state / ds.
        y: Initial state.
        solver: Method.
        first: Replaces the rule for the first step of an adaptive method.
        length: What s from 0 to 1 is in t, in which the rule for the first step works.
        repeat: A solve whose steps are taken again, with no control of the error.
    """
    tableau = TABLEAUX[solver.name]
    steps = [] if repeat is None else repeat.steps
    if repeat is None and isinstance(solver, FixedSolver):
        steps = [(k / solver.steps, 1 / solver.steps) for k in range(solver.steps)]
    if steps:
        interpolates = isinstance(solver, AdaptiveSolver) and solver.end == "interpolate"
        for s, h in steps:
            ks = _stages(rate, tableau, s, h, y, rate(s, y))
            passes = interpolates and s + h > 1
            weights = _interpolating(tableau, (1 - s) / h) if passes else tableau.b
            y = _moved(y, h, weights, ks)
        return Solution(y, steps)
    assert isinstance(solver, AdaptiveSolver)
    if first is None and solver.first_step in ("heuristic", "warm"):
        first = _heuristic(rate, solver, y, rate(0.0, y), length)
    return _adaptive(rate, y, solver, tableau, first)


def solve_pairs(rate: Rate, y: State, solver: FixedSolver) -> Solution:
    """The same by reversible pairs (docs/numerics.md, 6)."""
    tableau, h, w = TABLEAUX[solver.name], 1 / solver.steps, y
    steps = [(k / solver.steps, h) for k in range(solver.steps)]
    zero = (np.zeros_like(y[0]), np.zeros_like(y[1]))
    for s, _ in steps:
        mixed = _moved(_moved(zero, 0.999, (1.0,), [y]), 0.001, (1.0,), [w])
        y = _moved(mixed, h, tableau.b, _stages(rate, tableau, s, h, w, rate(s, w)))
        ks = _stages(rate, tableau, s + h, -h, y, rate(s + h, y))
        w = _moved(w, h, tableau.b, ks)
    return Solution(y, steps)


def _adaptive(
    rate: Rate, y: State, solver: AdaptiveSolver, tableau: Tableau, first: float | None
) -> Solution:
    assert tableau.error is not None
    solution = Solution(y)
    k = rate(0.0, y)
    h = 1.0
    if first is not None:
        h = first
    elif isinstance(solver.first_step, float):
        h = solver.first_step
    s = 0.0
    while s < 1.0:
        solution.proposed = h
        lands = s + h >= 1.0 and solver.end == "stop"
        h = 1.0 - s if lands else h
        ks = _stages(rate, tableau, s, h, y, k)
        new = _moved(y, h, tableau.b, ks)
        zero = (np.zeros_like(y[0]), np.zeros_like(y[1]))
        ratio = _size(solver, _moved(zero, h, tableau.error, ks), y, new)
        if ratio <= 1:
            solution.steps.append((s, h))
            if s + h > 1 and not lands:
                new = _moved(y, h, _interpolating(tableau, (1 - s) / h), ks)
            s, y = (1.0 if lands else s + h), new
            k = ks[-1] if tableau.fsal or lands else rate(s, y)
        else:
            solution.rejected += 1
        smallest = 1.0 if ratio <= 1 else 0.2
        h *= 10.0 if ratio == 0 else min(10.0, max(0.9 * ratio ** (-1 / tableau.order), smallest))
    solution.end = y
    return solution
