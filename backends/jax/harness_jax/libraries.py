"""The solvers of diffrax for ordinary differential equations, known without importing it."""

from __future__ import annotations

from harness.solvers import LIBRARY_ADAPTIVE, LIBRARY_FIXED, TABLEAUX
from harness.trial import AdaptiveSolver, EngineName, LibrarySolver, SolverSpec

__all__ = ["unsupported_solver"]

_ADAPTIVE = frozenset(LIBRARY_ADAPTIVE["diffrax"])
_FIXED = frozenset(LIBRARY_FIXED["diffrax"])


def unsupported_solver(solver: SolverSpec, engine: EngineName) -> str | None:
    """Why this backend cannot run `solver` by `engine`; None if it can."""
    if isinstance(solver, LibrarySolver):
        return _not_in_diffrax(solver)
    if solver.name not in TABLEAUX:
        return f"solver '{solver.name}' is not one of {', '.join(TABLEAUX)}"
    if not isinstance(solver, AdaptiveSolver):
        return None
    if solver.end == "interpolate" and TABLEAUX[solver.name].middle is None:
        return f"torchdiffeq, whose interpolation 'end: interpolate' means, has no {solver.name}"
    if engine == "library" and solver.end == "interpolate":
        return "diffrax ends a solve on its end: 'end: interpolate' needs 'engine: native'"
    if engine == "library" and solver.regularizers_in_norm:
        return "diffrax scales a state before its norm sees it, so no 'regularizers_in_norm'"
    return None


def _not_in_diffrax(solver: LibrarySolver) -> str | None:
    library, _, name = solver.library.partition(":")
    if library != "diffrax":
        return f"'{solver.library}' is no solver of diffrax, the library of this backend"
    if name not in _ADAPTIVE | _FIXED:
        known = ", ".join(sorted(_ADAPTIVE | _FIXED))
        return f"diffrax has no solver '{name}' for these equations; it has {known}"
    if name in _FIXED and solver.steps is None:
        return f"'{solver.library}' takes equal steps: say how many with 'steps'"
    return None
