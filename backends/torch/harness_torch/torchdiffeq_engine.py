"""The same solve by torchdiffeq, driven with the settings of docs/numerics.md: the reference that
the production engine is compared with.

Every tableau becomes a torchdiffeq solver class, so both engines run the same methods. torchdiffeq
reports failures by bare assertions; they come back as data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchdiffeq import odeint
from torchdiffeq._impl.odeint import SOLVERS
from torchdiffeq._impl.rk_common import RKAdaptiveStepsizeODESolver, _ButcherTableau
from torchdiffeq._impl.solvers import FixedGridODESolver

from harness.errors import BackendError
from harness.solvers import TABLEAUX, Tableau
from harness.trial import AdaptiveSolver, FixedSolver, SolverSpec
from harness_torch.control import (
    BoundField,
    Field,
    Leaves,
    Norm,
    Rates,
    error_norm,
    first_step,
    time_like,
)
from harness_torch.solve import Solution

__all__ = ["solve"]

PREFIX = "harness:"
_CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")


def solve(
    field: Field,
    inputs: Any,  # noqa: ANN401
    u: Tensor,
    q: Tensor,
    solver: SolverSpec,
    leaves: Leaves,
    h0: float | None = None,
) -> Solution:
    """See `harness_torch.solve.Solve`."""
    tableau = TABLEAUX[solver.name]
    bound = field.bind(inputs)
    watched = _Watched(bound)
    if isinstance(solver, FixedSolver):
        h0, heuristic, tolerances = 1 / solver.steps, False, {}
        options: dict[str, Any] = {"grid_constructor": _grid(solver.steps)}
    elif isinstance(solver, AdaptiveSolver):
        norm = error_norm(solver.norm, leaves)
        heuristic = h0 is None and solver.first_step in ("heuristic", "warm")
        if h0 is None:
            h0 = first_step(bound, u, q, bound(time_like(0.0, u), u), solver, norm)
        tolerances = {"rtol": solver.rtol, "atol": solver.atol}
        options = {
            "norm": _tensor_norm(norm),
            "first_step": h0,
            "step_t": torch.tensor([0.0, 1.0], dtype=torch.float64, device=u.device),
            "max_num_steps": solver.max_steps,
        }
    else:
        raise BackendError(f"no tableau of the name '{solver.name}'")
    times = torch.tensor([0.0, 1.0], dtype=torch.float64, device=u.device)
    failure = None
    try:
        us, qs = odeint(
            watched, (u, q), times, method=PREFIX + solver.name, options=options, **tolerances
        )
        u, q = us[-1], qs[-1]
    except AssertionError as error:
        failure = "max_steps" if "max_num_steps" in str(error) else watched.failure()
    steps = watched.steps
    evaluations = tableau.evaluations(steps, heuristic)
    return Solution(
        u,
        q,
        evaluations,
        steps - watched.rejected,
        watched.rejected,
        h0,
        watched.largest or h0,
        watched.proposed or h0,
        failure,
    )


class _Watched:
    """The field as torchdiffeq calls it, with its callbacks."""

    def __init__(self, field: BoundField) -> None:
        self._field = field
        self._last: Rates | None = None
        self.steps = self.rejected = 0
        self.largest = self.proposed = 0.0

    def __call__(self, t: Tensor, state: Rates) -> Rates:
        self._last = self._field(t.to(state[0].dtype), state[0])
        return self._last

    def callback_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.steps += 1
        self.proposed = float(dt)

    def callback_accept_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.largest = max(self.largest, float(dt))

    def callback_reject_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.rejected += 1

    def failure(self) -> str:
        """A step whose error is not a number is an underflow in torchdiffeq's words."""
        finite = self._last is None or all(bool(x.isfinite().all()) for x in self._last)
        return "underflow" if finite else "non-finite"


def _tensor_norm(norm: Norm) -> Callable[[Rates], Tensor]:
    @torch.no_grad()
    def of_state(state: Rates) -> Tensor:
        return torch.tensor(norm(*state), dtype=torch.float64)

    return of_state


def _grid(steps: int) -> Callable[[Any, Tensor, Tensor], Tensor]:
    return lambda func, y0, t: torch.linspace(0, 1, steps + 1, dtype=t.dtype, device=t.device)


def _adaptive_class(name: str, method: Tableau) -> type[Any]:
    def tensor(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    members = {
        "order": method.order,
        "tableau": _ButcherTableau(
            alpha=tensor(method.c[1:]),
            beta=[tensor(row) for row in method.a[1:]],
            c_sol=tensor(method.b),
            c_error=tensor(method.error or ()),
        ),
        # Weights of the midpoint, for values between steps; a solve that lands on its end needs
        # none, and the interpolant is exact there whatever they are.
        "mid": tensor((0.5, *[0.0] * (method.stages - 1))),
    }
    return type(name, (RKAdaptiveStepsizeODESolver,), members)


def _fixed_class(name: str, method: Tableau) -> type[Any]:
    def step(
        self: Any,  # noqa: ANN401
        func: Any,  # noqa: ANN401
        t0: Tensor,
        dt: Tensor,
        t1: Tensor,
        y0: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ks = [func(t0, y0)]
        for row, node in zip(method.a[1:], method.c[1:], strict=True):
            stage = y0 + dt * sum(a * k for a, k in zip(row, ks, strict=True))
            ks.append(func(t0 + node * dt, stage))
        return dt * sum(b * k for b, k in zip(method.b, ks, strict=True)), ks[0]

    members = {
        "order": method.order,
        "_step_func": step,
        # torchdiffeq warns of callbacks that a solver never calls.
        "valid_callbacks": classmethod(lambda cls: set(_CALLBACKS)),
    }
    return type(name, (FixedGridODESolver,), members)


SOLVERS.update(
    {
        PREFIX + name: (_fixed_class if method.error is None else _adaptive_class)(name, method)
        for name, method in TABLEAUX.items()
    }
)
