"""One record as flat, dotted columns: the shape of a table row and of an MLflow run alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Scalar", "flatten", "flatten_result"]

Scalar = str | int | float

_BLOCKS = ("timing", "nfe", "memory", "environment")
_HEAD = ("trial_id", "status", "message", "attempts", "attempt_id", "finished_ms")


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Flattens nested mappings to dotted names.

    Lists become one text, true and false become `yes` and `no`, null is left out.

    Example:
        >>> flatten({"train": {"forward": {"mean": 26.0, "n": 5}, "backward": None}}, "nfe.")
        {'nfe.train.forward.mean': 26.0, 'nfe.train.forward.n': 5}
    """
    return dict(_walk(value, prefix))


def flatten_result(result: Mapping[str, Any]) -> dict[str, Scalar]:
    """Flattens a `result.json`.

    A metric `{"value", "unit", "n", ...}` becomes `metrics.<name>` for its value and
    `metrics.<name>.unit` and so on for the rest. What was not measured has no column.
    """
    row = flatten({name: result.get(name) for name in _HEAD})
    for name, metric in (result.get("metrics") or {}).items():
        fields = dict(metric)
        row.update(flatten({name: fields.pop("value", None)}, "metrics."))
        row.update(flatten(fields, f"metrics.{name}."))
    for block in _BLOCKS:
        row.update(flatten(result.get(block) or {}, f"{block}."))
    return row


def _walk(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Scalar]]:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            yield from _walk(item, f"{name}.")
        elif isinstance(item, bool):
            yield name, "yes" if item else "no"
        elif isinstance(item, list | tuple):
            yield name, ", ".join(str(part) for part in item)
        elif item is not None and not (isinstance(item, float) and not math.isfinite(item)):
            yield name, item
