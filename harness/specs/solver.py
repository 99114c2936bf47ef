"""Who solves the ODE, how gradients come back through it, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from harness.solvers import ADAPTIVE_SOLVERS, FIXED_SOLVERS
from harness.specs.bounds import LATER, STRICT, Bound, Count, Positive

__all__ = [
    "AdaptiveSolver",
    "EngineName",
    "FixedSolver",
    "GradientName",
    "LibrarySolver",
    "PrecisionName",
    "SolverSpec",
    "carries_log_volume",
    "impossible_gradient",
]

GradientName = Literal["adjoint", "auto", "checkpoint", "direct", "reversible", "symplectic"]
EngineName = Literal["library", "native"]
PrecisionName = Literal["float32", "float64", "tf32"]


@dataclass(frozen=True)
class AdaptiveSolver:
    """An embedded Runge-Kutta pair under the shared step-size control (docs/numerics.md).

    Arguments:
        name: The pair.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        first_step: `heuristic`; `whole`, the interval; `warm`, in training the largest step that
            the same solve accepted in the step before, or the heuristic; or a number.
        backward_first_step: Of an adjoint solve: the first step of the `forward` solve, or the
            `heuristic` anew, as in FFJORD's released code.
        norm: `mixed` or `rms_all`.
        adjoint_norm: Of an adjoint solve: over all of its state, or the `seminorm`, which leaves
            out the adjoints of what is trained (Kidger et al. 2021).
        regularizers_in_norm: The error norm of a forward solve sees the batch mean of each
            regularizer's integral, too, as in FFJORD's released code.
        max_steps: Attempts after which a solve has failed.
        end: `stop` on the end exactly, or step past it and `interpolate` as torchdiffeq does.
        log_volume_in_state: The integral that gives log p starts at the log-volume of the data's
            preprocessing (of images the logit), negated, in place of 0, so that the error norm
            sees it, as in FFJORD's released code.
    """

    __pydantic_config__ = STRICT

    name: Literal[ADAPTIVE_SOLVERS]  # type: ignore[valid-type]
    rtol: Positive = 1e-5
    atol: Positive = 1e-5
    first_step: (
        Literal["heuristic", "warm", "whole"] | Annotated[float, Bound(above=0, at_most=1)]
    ) = "heuristic"
    backward_first_step: Literal["forward", "heuristic"] = "forward"
    norm: Literal["mixed", "rms_all"] = "mixed"
    regularizers_in_norm: bool = False
    max_steps: Count = 1000
    end: Literal["interpolate", "stop"] = "stop"
    log_volume_in_state: bool = field(default=False, metadata=LATER)
    adjoint_norm: Literal["full", "seminorm"] = field(default="full", metadata=LATER)


@dataclass(frozen=True)
class FixedSolver:
    """A Runge-Kutta method with `steps` equal steps of s in [0, 1]."""

    __pydantic_config__ = STRICT

    name: Literal[FIXED_SOLVERS]  # type: ignore[valid-type]
    steps: Count


@dataclass(frozen=True)
class LibrarySolver:
    """A solver of one library under that library's own control; never compared across backends.

    Arguments:
        library: `torchdiffeq:<name>` or `diffrax:<Name>`, as the library spells it.
        rtol: Relative tolerance of an adaptive method.
        atol: Absolute tolerance.
        steps: Equal steps of a fixed-step method; null means adaptive.
        max_steps: Attempts after which a solve has failed.
    """

    __pydantic_config__ = STRICT

    library: str
    rtol: Positive = 1e-5
    atol: Positive = 1e-5
    steps: Count | None = None
    max_steps: Count = 1000

    @property
    def name(self) -> str:
        """What other solvers call their name."""
        return self.library


SolverSpec = AdaptiveSolver | FixedSolver | LibrarySolver


def carries_log_volume(solver: SolverSpec) -> bool:
    """Whether a solve starts at the log-volume of the data's preprocessing."""
    return isinstance(solver, AdaptiveSolver) and solver.log_volume_in_state


def impossible_gradient(
    gradient: GradientName, solver: SolverSpec, engine: EngineName
) -> str | None:
    """Why no backend can go back through a solver in a gradient mode; None if one might."""
    library = engine == "library" or isinstance(solver, LibrarySolver)
    if gradient in ("reversible", "symplectic") and library:
        return f"gradient '{gradient}' is of the native engine: a library takes steps of its own"
    if gradient == "reversible" and not isinstance(solver, FixedSolver):
        return "gradient 'reversible' is of solvers with equal steps, by which it goes back"
    return None
