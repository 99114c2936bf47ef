"""What the trials of a plan will take, from records of the same shape.

Trials of one shape differ in their seed, in how long they train and in what they are scored by:
their steps cost the same. A probe is such a record, of a trial that was stopped after a moment.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.planning.plan import Plan, PlannedTrial
from harness.records.columns import flatten
from harness.records.durations import START, seconds, spent_seconds
from harness.records.estimates import Estimate
from harness.records.folder import Damaged, Record, read_records
from harness.trial import Evaluation, Trial, canonical

__all__ = ["PROBES", "Sums", "estimate_plan", "sums"]

PROBES = "probes"
"""Folder in a run root that is the run root of probes."""

_FEW, _WIDER = 3, 1.5
"""Fewer records than this do not show what seeds and load do; their range is wider by a factor."""
_GROWTH = 3.0
"""A probe sees the first steps, and adaptive solvers take more evaluations as training goes on:
the upper end of its range is this much higher."""


@dataclass(frozen=True)
class Sums:
    """Hours of the trials of a plan that wait, added up as if one ran after the other.

    Arguments:
        hours: Expected, of the trials that have an estimate.
        low: Lower end of its range.
        high: Upper end.
        cpu_hours: Expected hours times cores; trials without an estimate count by their timeout.
        gpu_hours: Expected hours times GPUs; the same.
        known: Number of trials with an estimate.
        unknown: Number of trials without one.
        unknown_hours: At most what these take, by their timeouts.
    """

    hours: float
    low: float
    high: float
    cpu_hours: float
    gpu_hours: float
    known: int
    unknown: int
    unknown_hours: float

    @property
    def all_hours(self) -> float:
        """Hours of all, those without an estimate by their timeouts."""
        return self.hours + self.unknown_hours


def estimate_plan(plan: Plan, root: Path) -> dict[str, Estimate]:
    """Estimates by trial, for those of a plan that wait and that records tell something of.

    Arguments:
        plan: The plan.
        root: The run root; damaged records in it say nothing.
    """
    waiting = [planned for planned in plan.trials if planned.is_waiting]
    if not waiting:
        return {}
    records, probes = _by_shape(root), _by_shape(root / PROBES)
    estimates = {}
    for planned in waiting:
        shape = _shape(planned.trial)
        for known, is_probe in ((records, False), (probes, True)):
            if shape in known:
                estimates[planned.trial.id] = _estimate(planned, known[shape], is_probe)
                break
    return estimates


def sums(plan: Plan, estimates: Mapping[str, Estimate]) -> Sums:
    """Adds up what the waiting trials of a plan take."""
    known = hours = low = high = cpu = gpu = 0.0
    unknown, unknown_hours = 0, 0.0
    for planned in plan.trials:
        if not planned.is_waiting:
            continue
        estimate = estimates.get(planned.trial.id)
        if estimate is None:
            each = planned.resources.timeout_minutes / 60
            unknown, unknown_hours = unknown + 1, unknown_hours + each
        else:
            each = estimate.seconds / 3600
            known, hours = known + 1, hours + each
            low, high = low + estimate.low / 3600, high + estimate.high / 3600
        cpu += each * planned.resources.cpus
        gpu += each * planned.resources.gpus
    return Sums(hours, low, high, cpu, gpu, int(known), unknown, unknown_hours)


def _shape(trial: Trial) -> str:
    training = replace(trial.training, iterations=1, validate_every=1)
    return canonical(replace(trial, seed=0, training=training, evaluation=Evaluation()))


def _by_shape(root: Path) -> dict[str, list[Record]]:
    """Records that took a training step, by shape."""
    by_shape: dict[str, list[Record]] = {}
    with Damaged():
        for record in read_records(root):
            if _steps(record):
                by_shape.setdefault(_shape(record.trial), []).append(record)
    return by_shape


def _estimate(planned: PlannedTrial, records: Iterable[Record], is_probe: bool) -> Estimate:
    values = sorted(_predicted(planned, record) for record in records)
    wider = 1.0 if len(values) >= _FEW else _WIDER
    high = values[-1] * wider * (_GROWTH if is_probe else 1.0)
    middle = statistics.median(values)
    return Estimate(
        middle, values[0] / wider, high, "probe" if is_probe else "records", len(values)
    )


def _predicted(planned: PlannedTrial, record: Record) -> float:
    """Seconds of a trial if its steps, validations and tests cost what those of a record did."""
    timing = flatten(record.result.get("timing") or {})
    trial, other = planned.trial.training, record.trial.training
    start = sum(seconds(timing, name) for name in START)
    rest = max(0.0, spent_seconds(timing) - start) - sum(
        seconds(timing, name) for name in ("train_s", "val_s")
    )
    untrained = start + max(0.0, rest) * _rows_ratio(planned.trial, record.trial)
    if planned.state == "to_score":
        return untrained
    steps = _steps(record)
    validations = max(1, steps // other.validate_every)
    wanted = max(1, trial.iterations // trial.validate_every)
    training = seconds(timing, "train_s") / steps * trial.iterations
    return untrained + training + seconds(timing, "val_s") / validations * wanted


def _rows_ratio(trial: Trial, other: Trial) -> float:
    """How many more rows are tested; 1 where either tests all that there are."""
    rows = trial.evaluation.rows, other.evaluation.rows
    return rows[0] / rows[1] if rows[0] and rows[1] else 1.0


def _steps(record: Record) -> int:
    """Training steps behind the timings of a record."""
    timing = record.result.get("timing") or {}
    measured = (timing.get("step_s") or {}).get("n")
    if not measured:
        return 0
    steps = ((record.result.get("metrics") or {}).get("steps") or {}).get("value")
    # The first step of each attempt is timed apart.
    return int(steps or measured + 1)
