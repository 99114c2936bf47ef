"""Versions of what computed: a mean over several is marked, wherever it is printed."""

from __future__ import annotations

from collections.abc import Iterable

from harness_reports.trials.groups import Group

__all__ = ["PACKAGES", "mixed_versions"]

PACKAGES = ("torch", "torchdiffeq", "jax", "jaxlib", "diffrax", "equinox")
"""Packages whose versions a result may depend on, as records name them."""


def mixed_versions(groups: Iterable[Group]) -> str:
    """What the trials of one mean differ in, as `jax 0.9.2, 0.10.1`; empty if in nothing.

    Arguments:
        groups: Groups over seeds; those of two backends have versions of their own.
    """
    parts: dict[str, None] = {}
    for group in groups:
        for package in PACKAGES:
            found = dict.fromkeys(
                version
                for entry in group.entries
                if entry.ok and (version := entry.text(f"environment.{package}")) is not None
            )
            if len(found) > 1:
                parts[f"{package} {', '.join(found)}"] = None
    return "; ".join(parts)
