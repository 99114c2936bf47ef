"""Compare continuous normalizing flows across frameworks, solvers and regularizers."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from harness.frame import load


def __getattr__(name: str) -> object:
    """Imports `load` on first use, so that `import harness` does without pandas."""
    if name == "load":
        from harness.frame import load

        return load
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
