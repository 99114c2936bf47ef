"""How far another seed moves a result: the yardstick of what is noise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from harness.records.folder import Record
from harness.records.status import Status
from harness.statistics import summarize
from harness.trial import Trial

__all__ = ["QUALITY", "quality_of", "seed_spread"]

QUALITY = ("test_nll", "test_neg_elbo")
"""The result of a trial: the first of these that it has, in nats; lower is better."""


def quality_of(record: Record) -> float | None:
    """The result of a trial that ended ok; None if it has none."""
    if Status(record.result["status"]) is not Status.OK:
        return None
    metrics = record.result.get("metrics") or {}
    entries = (metrics.get(name) or {} for name in QUALITY)
    return next((e["value"] for e in entries if e.get("value") is not None), None)


def seed_spread(trial: Trial, records: Iterable[Record]) -> float | None:
    """Standard deviation of the result over the recorded seeds of a trial's setting.

    Arguments:
        trial: One of them.
        records: Where the others are looked for.

    Returns:
        None for fewer than two seeds.
    """
    setting = replace(trial, seed=0)
    values = [
        value
        for record in records
        if replace(record.trial, seed=0) == setting and (value := quality_of(record)) is not None
    ]
    summary = summarize(values)
    return None if summary is None else summary.sd
