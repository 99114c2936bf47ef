"""Published tables as data: every value with its source, unit, spread, model and confidence.

The tables are `papers/*.yaml`, one file per source; `harness_reports.published.paper_files` reads
and checks them. Log-likelihoods are stored as negative log-likelihoods, lower is better, whatever
sign was printed.

Confidence marks:

    V    read in the cited source itself (text or the authors' program)
    V2   read in two or more independent sources
    R    read in a secondary source only
    D    derived or measured from V material
    M+   from memory, but independent checks agree with it
    M    from memory only

Values of mark M wait to be checked and are never printed. Values of mark M+ are printed with
a remark that says so, and judge nothing: they are no target, and a comparison with one has no
verdict but `not comparable`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from harness_reports.published.values import (
    DATASETS,
    METRICS,
    PublishedEffect,
    PublishedValue,
    Source,
)

__all__ = ["effects", "published", "sources"]


def published(
    dataset: str | None = None, metric: str | None = None, *, unprintable: bool = False
) -> list[PublishedValue]:
    """Published values, by source and in the order of its tables.

    Arguments:
        dataset: Only of this dataset.
        metric: Only of this metric.
        unprintable: Also values that may not be printed.

    Raises:
        ValueError: An unknown dataset or metric.
        InputError: A file of tables has mistakes.
    """
    if dataset is not None and dataset not in DATASETS:
        raise ValueError(f"no published values of dataset '{dataset}'; known: {DATASETS}")
    if metric is not None and metric not in METRICS:
        raise ValueError(f"no metric '{metric}'; known: {sorted(METRICS)}")
    return [
        value
        for value in _library()[1]
        if dataset in (None, value.dataset)
        and metric in (None, value.metric)
        and (unprintable or value.printable)
    ]


def effects(source: str | None = None) -> list[PublishedEffect]:
    """Published effect sizes that may be printed, of one source or of all."""
    return [e for e in _library()[2] if source in (None, e.source) and e.printable]


def sources() -> dict[str, Source]:
    """All sources by name."""
    return dict(_library()[0])


@functools.cache
def _library() -> tuple[
    Mapping[str, Source], tuple[PublishedValue, ...], tuple[PublishedEffect, ...]
]:
    from harness_reports.published.paper_files import read_papers

    return read_papers(Path(__file__).parent / "papers")
