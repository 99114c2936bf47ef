"""What each column of an exported table means, and its unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.metrics.definitions import DEFINITIONS
from harness.records.columns import metric_of
from harness.trial import AXES

__all__ = ["ColumnDoc", "describe_columns"]


@dataclass(frozen=True)
class ColumnDoc:
    """One column: its name, its unit (empty if it has none), and a sentence."""

    name: str
    unit: str
    description: str


_HEAD: Mapping[str, str] = {
    "trial_id": "identity of the trial: the first 16 digits of the SHA-256 of its spec",
    "seed": "seed of the trial",
    "status": "how the trial ended: ok, diverged, timeout, out_of_memory, error, killed",
    "message": "why it ended so, or what is worth knowing",
    "spec": "the whole specification as canonical JSON",
    "attempts": "attempts that the trial took",
    "attempt_id": "the attempt that committed the result",
    "finished_ms": "when the result was committed, since 1970",
}
_DETAILS: Mapping[str, str] = {
    "unit": "unit of {}",
    "n": "rows or values behind {}",
    "sem": "standard error of {} over rows",
    "sd": "standard deviation of {}",
}
_STATISTICS: Mapping[str, str] = {
    "mean": "mean",
    "max": "largest",
    "n": "number of values",
    "median": "median",
    "q25": "lower quartile",
    "q75": "upper quartile",
}


def describe_columns(names: Iterable[str]) -> Iterator[ColumnDoc]:
    """Describes columns of `harness.load`, in their order."""
    return (_describe(name) for name in names)


def _describe(name: str) -> ColumnDoc:
    if name in _HEAD:
        return ColumnDoc(name, "ms" if name.endswith("_ms") else "", _HEAD[name])
    if name in AXES:
        return ColumnDoc(name, "", f"{name} of the trial, as tables name it")
    part, _, rest = name.partition(".")
    if part == "metrics":
        return _metric(name, rest)
    words = rest.replace("_", " ")
    *kinds, last = rest.split(".")
    statistic = _STATISTICS.get(last)
    if part == "nfe":
        what = f"evaluations of the dynamics, {' '.join(kinds or [words])}"
        return ColumnDoc(name, "count", f"{what}: {statistic}" if statistic else what)
    if part == "timing":
        base = kinds[-1] if kinds else rest
        unit = "s" if base.endswith("_s") and last != "n" else ""
        what = f"duration of {base.removesuffix('_s').replace('_', ' ')}"
        if rest == "mode":
            what = "exclusive if no other trial ran on the machine, otherwise shared"
        return ColumnDoc(name, unit, f"{what}: {statistic}" if statistic else what)
    if part == "memory":
        return ColumnDoc(name, "bytes", words.removesuffix(" bytes"))
    return ColumnDoc(name, "", f"environment of the trial: {words}")


def _metric(name: str, rest: str) -> ColumnDoc:
    metric, _, detail = rest.partition(".")
    definition = DEFINITIONS.get(metric)
    if metric_of(name) is None:
        template = _DETAILS.get(detail, detail.replace("_", " ") + " of {}")
        numeric = detail not in ("unit", "n") and definition is not None
        return ColumnDoc(
            name, definition.unit if numeric and definition else "", template.format(metric)
        )
    if definition is None:
        return ColumnDoc(name, "", "a metric that this version does not define")
    return ColumnDoc(name, definition.unit, definition.summary)
