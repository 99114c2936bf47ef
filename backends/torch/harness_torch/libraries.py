"""The solvers of torchdiffeq by kind, known without importing it."""

from __future__ import annotations

from harness.solvers import LIBRARY_ADAPTIVE, LIBRARY_FIXED, TABLEAUX
from harness.trial import AdaptiveSolver, EngineName, GradientName, LibrarySolver, SolverSpec

__all__ = ["unsupported_gradient", "unsupported_solver"]

_ADAPTIVE = frozenset(LIBRARY_ADAPTIVE["torchdiffeq"])
_FIXED = frozenset(LIBRARY_FIXED["torchdiffeq"])


def unsupported_solver(solver: SolverSpec, engine: EngineName) -> str | None:
    """Why this backend cannot run `solver` by `engine`; None if it can."""
    if isinstance(solver, LibrarySolver):
        return _not_in_torchdiffeq(solver)
    if solver.name not in TABLEAUX:
        return f"solver '{solver.name}' is not one of {', '.join(TABLEAUX)}"
    if not isinstance(solver, AdaptiveSolver):
        return None
    if solver.end == "interpolate" and TABLEAUX[solver.name].middle is None:
        return f"torchdiffeq, whose interpolation 'end: interpolate' means, has no {solver.name}"
    if engine == "library" and solver.regularizers_in_norm:
        return "torchdiffeq scales a state before its norm sees it, so no 'regularizers_in_norm'"
    return None


def unsupported_gradient(
    gradient: GradientName, solver: SolverSpec, engine: EngineName
) -> str | None:
    """Why torchdiffeq cannot go back through `solver` in a gradient mode; None if it can."""
    if gradient == "checkpoint" and (engine == "library" or isinstance(solver, LibrarySolver)):
        return (
            "torchdiffeq keeps the whole graph of a solve: its gradient is 'direct' or "
            "'adjoint', never 'checkpoint'"
        )
    if gradient == "direct" and solver.name == "torchdiffeq:scipy_solver":
        return "scipy's solvers cannot be differentiated: use 'adjoint'"
    return None


def _not_in_torchdiffeq(solver: LibrarySolver) -> str | None:
    library, _, name = solver.library.partition(":")
    if library != "torchdiffeq":
        return f"'{solver.library}' is no solver of torchdiffeq, the library of this backend"
    if name not in _ADAPTIVE | _FIXED:
        known = ", ".join(sorted(_ADAPTIVE | _FIXED))
        return f"torchdiffeq has no solver '{name}'; it has {known}"
    if name in _FIXED and solver.steps is None:
        return f"'{solver.library}' takes equal steps: say how many with 'steps'"
    if name in _ADAPTIVE and solver.steps is not None:
        return f"'{solver.library}' chooses its steps: it takes no 'steps'"
    return None
