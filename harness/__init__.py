"""Compare continuous normalizing flows across frameworks, solvers and regularizers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__all__ = ["AdaptiveSolver", "Evaluation", "FixedSolver", "__version__", "load", "trained"]

if TYPE_CHECKING:
    from harness.models.trained import trained
    from harness.records.frame import load
    from harness.records.version import __version__
    from harness.trial import AdaptiveSolver, Evaluation, FixedSolver

_HOMES = {
    "AdaptiveSolver": "harness.trial",
    "Evaluation": "harness.trial",
    "FixedSolver": "harness.trial",
    "__version__": "harness.records.version",
    "load": "harness.records.frame",
    "trained": "harness.models.trained",
}


def __getattr__(name: str) -> object:
    """Hands on what is asked for first, so that `import harness` does without numpy and pandas."""
    if name not in _HOMES:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
