"""What a trial took: the parts of its `timing`, each counted once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["START", "seconds", "spent_seconds"]

START = ("import_s", "data_s", "build_s", "compile_s")
"""What comes before the first step."""

_ONCE = (*START, "train_s", "val_s", "test_s")


def spent_seconds(timing: Mapping[str, Any]) -> float:
    """What a trial took, from the flattened `timing` of its record: start, training and tests.

    Drawing pictures and writing checkpoints is not timed and not in it.
    """
    spent = sum(seconds(timing, name) for name in _ONCE)
    phases = {name.removesuffix(".median") for name in timing if name.endswith(".median")}
    return spent + sum(
        seconds(timing, f"{name}.median") * seconds(timing, f"{name}.n")
        for name in phases - {"step_s"}
    )


def seconds(timing: Mapping[str, Any], name: str) -> float:
    """One entry, 0 where it was not measured."""
    value = timing.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
