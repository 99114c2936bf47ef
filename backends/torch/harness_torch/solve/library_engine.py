"""Solves by torchdiffeq: `engine: library`, driven with the settings of docs/numerics.md and the
reference that the production engine is compared with; and every other solver of the library, under
its own control (`torchdiffeq:<name>`).

Every tableau becomes a torchdiffeq solver class, so both engines run the same methods. torchdiffeq
reports failures by bare assertions; they come back as data.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchdiffeq import odeint
from torchdiffeq._impl.odeint import SOLVERS
from torchdiffeq._impl.rk_common import RKAdaptiveStepsizeODESolver, _ButcherTableau
from torchdiffeq._impl.solvers import FixedGridODESolver

from harness.solvers import TABLEAUX, Tableau
from harness.trial import AdaptiveSolver, FixedSolver, SolverSpec
from harness_torch.solve.control import Norm, error_norm, first_step
from harness_torch.solve.counts import Solution
from harness_torch.solve.problem import BoundField, InitialValue, Rates, time_like

__all__ = ["Library"]

PREFIX = "harness:"
_CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")


class Library:
    """The engine of torchdiffeq; differentiable in u, q and the inputs. See
    `harness_torch.solve.engines.Engine`.
    """

    compiles: ClassVar[bool] = False
    taped_field: ClassVar[None] = None

    def solve(self, problem: InitialValue, solver: SolverSpec) -> Solution:
        """Solves, by the library's own steps."""
        return _solve(problem, solver)


def _solve(problem: InitialValue, solver: SolverSpec) -> Solution:
    field, inputs, u, q, leaves, h0, _ = problem
    watched = _Watched(field.bind(inputs))
    options: dict[str, Any] = {}
    if isinstance(solver, FixedSolver):
        h0, options = 1 / solver.steps, {"grid_constructor": _grid(solver.steps)}
        method = PREFIX + solver.name
    elif isinstance(solver, AdaptiveSolver):
        norm = error_norm(solver.norm, leaves)
        if h0 is None:
            rates = watched.evaluate(0.0, u)
            h0 = first_step(watched.evaluate, problem, rates, solver)
            watched.evaluations -= 1  # torchdiffeq evaluates f(y0) again
        options = _adaptive_options(norm, solver.max_steps) | {"first_step": h0}
        if solver.end == "stop":
            options["step_t"] = torch.tensor([0.0, 1.0], dtype=torch.float64, device=u.device)
        method = PREFIX + solver.name
    else:
        method = solver.library.partition(":")[2]
        if solver.steps is not None:
            options = {"grid_constructor": _grid(solver.steps)}
        elif method != "scipy_solver":
            options = _adaptive_options(error_norm("mixed", leaves), solver.max_steps)
            if h0 is not None:
                options["first_step"] = h0
    tolerances = (
        {} if isinstance(solver, FixedSolver) else {"rtol": solver.rtol, "atol": solver.atol}
    )
    times = torch.tensor([0.0, 1.0], dtype=torch.float64, device=u.device)
    failure = None
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            # It says which of the callbacks a method never calls.
            warnings.filterwarnings("ignore", message="Solver .* does not support callbacks")
            us, qs = odeint(watched, (u, q), times, method=method, options=options, **tolerances)
        u, q = us[-1], qs[-1]
        failure = _doubts(said)
    except AssertionError as error:
        failure = "max_steps" if "max_num_steps" in str(error) else watched.failure()
    steps = watched.steps
    return Solution(
        u,
        q,
        watched.evaluations,
        steps - watched.rejected,
        watched.rejected,
        h0,
        watched.largest or h0 or 0.0,
        watched.proposed or h0 or 0.0,
        failure,
    )


def _doubts(said: Sequence[warnings.WarningMessage]) -> str | None:
    """A failure if the library warns of its own solution; all that it said is said again."""
    failure = None
    for warning in said:
        text = str(warning.message)
        if "did not converge" in text or "may be incorrect" in text:
            failure = "not converged"
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return failure


def _adaptive_options(norm: Norm, max_steps: int) -> dict[str, Any]:
    return {"norm": _tensor_norm(norm), "max_num_steps": max_steps}


class _Watched:
    """The field as torchdiffeq calls it, with its callbacks."""

    def __init__(self, field: BoundField) -> None:
        self._field = field
        self._last: Rates | None = None
        self.evaluations = self.steps = self.rejected = 0
        self.largest = self.proposed = 0.0

    def __call__(self, t: Tensor, state: Rates) -> Rates:
        self.evaluations += 1
        self._last = self._field(t.to(state[0].dtype), state[0])
        return self._last

    @torch.no_grad()
    def evaluate(self, s: float, u: Tensor) -> Rates:
        """One evaluation outside a step."""
        return self(time_like(s, u), (u, u))

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

    last = method.stages - 1
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
        "mid": SOLVERS[name].mid if name in SOLVERS else tensor((0.5, *[0.0] * last)),
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
