"""What a user should know of own data before a training: said with the plan, by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from harness.datasets import registry as datasets
from harness.datasets.base import Float
from harness.datasets.families.own import OwnDataset
from harness.errors import HarnessError
from harness.metrics.gaussian import remembered_baseline
from harness.trial import Trial

__all__ = ["data_remarks"]

_UNEVEN = 1e4
"""Ratio of standard deviations from which one learning rate fits no two features."""
_DIGITS = {"float32": 2.0**-24, "tf32": 2.0**-24, "float64": 2.0**-53}
_NAMED = 5


def data_remarks(trials: Iterable[Trial]) -> list[str]:
    """A sentence for each trouble of each own file; its rows are read once and remembered."""
    wanted = dict.fromkeys((trial.dataset.name, trial.precision) for trial in trials)
    remarks: dict[str, None] = {}
    for name, precision in wanted:
        if not datasets.is_own(name):
            continue
        try:
            dataset = datasets.load(name)
        except HarnessError as error:
            remarks[str(error)] = None
            continue
        if isinstance(dataset, OwnDataset):
            for remark in _remarks(dataset, precision):
                remarks[f"dataset '{name}': {remark}"] = None
    return list(remarks)


def _remarks(dataset: OwnDataset, precision: str) -> Iterator[str]:
    digest = datasets.declare(dataset.info.name).digest
    train = dataset.rows("train").x
    flat = train.reshape(len(train), -1)
    try:
        dependent = remembered_baseline(dataset, digest).dependent
    except HarnessError:
        dependent = ()
    if dependent:
        yield (
            f"{_columns(dataset, dependent)} constant, a copy, or a combination of others: no "
            "density has a bound there; remove them"
        )
    if dataset.whole:
        yield (
            f"{_columns(dataset, dataset.whole)} of whole numbers: a density on them has no "
            "bound, and its likelihood says nothing; write dequantize: true"
        )
    spread = flat.std(axis=0)
    most, least = float(spread.max()), float(np.min(spread[spread > 0], initial=np.inf))
    if most > _UNEVEN * least:
        uneven = (int(spread.argmax()), int(np.argmin(np.where(spread > 0, spread, np.inf))))
        yield (
            f"{_columns(dataset, uneven)} of scales that differ by a factor of "
            f"{most / least:.0e}; write standardize: true"
        )
    if lost := _lost(flat, spread, precision):
        yield (
            f"{_columns(dataset, lost)} far from 0 for their spread: {precision} cannot tell "
            "their values apart; write standardize: true, or precision: float64"
        )
    largest = np.finfo("float64" if precision == "float64" else "float32").max
    if beyond := np.flatnonzero(np.abs(flat).max(axis=0) > largest).tolist():
        yield (
            f"{_columns(dataset, beyond)} beyond the range of {precision} ({largest:.1e}); write "
            "standardize: true, or precision: float64"
        )
    if dataset.sizes()["test"] == 1:
        yield "one row tests, which has no standard error; write test_fraction, or add rows"


def _lost(rows: Float, spread: Float, precision: str) -> list[int]:
    """Columns of which a hundredth of the spread is below the resolution of the values."""
    resolution = _DIGITS[precision] * np.abs(rows).max(axis=0)
    return np.flatnonzero((spread > 0) & (0.01 * spread < resolution)).tolist()


def _columns(dataset: OwnDataset, numbers: Iterable[int]) -> str:
    names = [dataset.column(number) for number in numbers]
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"column {shown} is" if len(names) == 1 else f"columns {shown} are"
