"""The registry of backends: entry points of the group `harness.backends`, loaded on demand."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from harness.errors import BackendError, BackendNotInstalled, InputError, Problem
from harness.interface import Backend
from harness.plugins import plugins

__all__ = ["backend_names", "get_backend", "missing_distribution", "require"]

GROUP = "harness.backends"


def _points() -> Mapping[str, metadata.EntryPoint]:
    return plugins(GROUP, "backend", BackendError)


def backend_names() -> list[str]:
    """Names of all registered backends, installed framework or not."""
    return sorted(_points())


def get_backend(name: str) -> Backend:
    """Returns a backend by name without importing its framework.

    Raises:
        InputError: There is no backend of that name.
    """
    points = _points()
    if name not in points:
        known = tuple(sorted(points))
        raise InputError(
            [Problem("backend", f"unknown backend '{name}'", known=known, found=name)]
        )
    backend = points[name].load()()
    if not isinstance(backend, Backend):
        raise BackendError(f"{points[name].value} is not a harness.interface.Backend")
    return backend


def missing_distribution(backend: Backend) -> str | None:
    """Returns the first distribution the backend needs that is not installed, or None.

    Asks the package metadata: from inside this repository's `backends` folder `import jax` would
    succeed without jax, as a namespace package.
    """
    for distribution in backend.framework:
        try:
            metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return distribution
    return None


def require(backend: Backend) -> None:
    """Raises BackendNotInstalled with the pip command if the framework is absent."""
    missing = missing_distribution(backend)
    if missing:
        raise BackendNotInstalled(backend.name, missing)
