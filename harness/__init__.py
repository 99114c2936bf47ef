"""Compare continuous normalizing flows across frameworks, solvers and regularizers."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["__version__", "load", "trained"]

if TYPE_CHECKING:
    from harness.models.trained import trained
    from harness.records.frame import load
    from harness.records.version import __version__


def __getattr__(name: str) -> object:
    """Hands on what is asked for first, so that `import harness` does without pandas."""
    if name == "load":
        from harness.records.frame import load

        return load
    if name == "trained":
        from harness.models.trained import trained

        return trained
    if name == "__version__":
        from harness.records.version import __version__

        return __version__
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
