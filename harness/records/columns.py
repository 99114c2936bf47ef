"""A record as flat, dotted columns: a row of a table and a run in MLflow have the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.labels import label
from harness.trial import Trial, canonical

__all__ = [
    "PARTS",
    "Scalar",
    "flatten",
    "metric_column",
    "metric_of",
    "result_columns",
    "row",
    "trial_columns",
]

Scalar = str | int | float

_PARTS = ("timing", "nfe", "memory", "environment")
PARTS = ("metrics", *_PARTS)
"""The mappings of a result.json; an entry of one becomes the column `<part>.<name>`."""

_HEAD = ("trial_id", "status", "message", "attempts", "attempt_id", "finished_ms")


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Flattens nested mappings to dotted names.

    Lists become one text, true and false become `yes` and `no`, null is left out.

    Example:
        >>> flatten({"train": {"forward": {"mean": 26.0, "n": 5}, "backward": None}}, "nfe.")
        {'nfe.train.forward.mean': 26.0, 'nfe.train.forward.n': 5}
    """
    return dict(_walk(value, prefix))


def row(trial: Trial, result: Mapping[str, Any]) -> dict[str, Scalar]:
    """One record in the columns of `harness.load`.

    Arguments:
        trial: Its spec.
        result: What `result.json` holds.
    """
    return {**trial_columns(trial), **result_columns(result)}


def trial_columns(trial: Trial) -> dict[str, Scalar]:
    """The labels of a trial, its seed as a number, and `spec`, its canonical JSON."""
    return {**label(trial), "seed": trial.seed, "spec": canonical(trial)}


def result_columns(result: Mapping[str, Any]) -> dict[str, Scalar]:
    """Flattens a `result.json`.

    A metric `{"value", "unit", "n", ...}` becomes `metrics.<name>` for its value and
    `metrics.<name>.unit` and so on for the rest. What was not measured has no column.
    """
    columns = flatten({name: result.get(name) for name in _HEAD})
    for name, metric in (result.get("metrics") or {}).items():
        details = dict(metric or {})
        columns |= flatten({metric_column(name): details.pop("value", None)})
        columns |= flatten(details, f"{metric_column(name)}.")
    for part in _PARTS:
        columns |= flatten(result.get(part) or {}, f"{part}.")
    return columns


def metric_column(metric: str, detail: str | None = None) -> str:
    """The column of a metric, or of a detail of it such as `n` or `sem`."""
    return f"metrics.{metric}.{detail}" if detail else f"metrics.{metric}"


def metric_of(column: str) -> str | None:
    """The metric whose value a column holds; None for any other column."""
    part, _, metric = column.partition(".")
    return metric if part == "metrics" and "." not in metric else None


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
