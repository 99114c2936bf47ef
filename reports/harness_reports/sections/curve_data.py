"""The points of the learning curves: mean and range over seeds, few enough for a page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from harness.datasets.registry import declare
from harness.errors import HarnessError
from harness_reports.trials.entries import Entry
from harness_reports.trials.groups import groups_of, setting_names
from harness_reports.trials.quantities import ELBO, NLL, Quantity, likelihood_of, quantity_of

__all__ = ["COLUMNS", "curve_table", "nats_to_unit"]

COLUMNS = ("panel", "backend", "split", "step", "value", "low", "high", "seeds")

_SPLITS = {
    **{quantity.curve: "training" for quantity in (NLL, ELBO)},
    **{f"val_{quantity.curve}": "validation" for quantity in (NLL, ELBO)},
    "nfe_forward": "solve",
}
_CURVE = ["trial", "split"]
_SEEDS = ["panel", "backend", "split"]
_LINE = [*_SEEDS, "step"]


def curve_table(entries: Sequence[Entry], history: pd.DataFrame, points: int) -> pd.DataFrame:
    """The points of the charts of one dataset.

    Arguments:
        entries: Trials of one dataset.
        history: All curves, as `harness.records.frame.history` gives them.
        points: A curve with more is averaged over so many equal spans of steps, as are curves that
            have other steps than those of other seeds.

    Returns:
        `COLUMNS`, in the order of the tables: over the seeds that reached the step, their mean,
        lowest and highest value and their number. The split is `training` (NLL or negative ELBO
        of the batch) or `validation`, both in the unit of the tables, or `solve` (evaluations a
        solve).
    """
    groups = groups_of(entries)
    names = setting_names(groups)
    trials = pd.DataFrame(
        [
            (entry.id, group.labels["backend"], group.title(names))
            for group in groups
            for entry in group.entries
        ],
        columns=["trial", "backend", "panel"],
    )
    drawn = history[history["metric"].isin(list(_SPLITS))]
    table = trials.merge(drawn, left_on="trial", right_on="trial_id")
    if table.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    table = _thinned(table.assign(split=table["metric"].map(_SPLITS)), points)
    likelihood = table["split"] != "solve"
    table.loc[likelihood, "value"] *= nats_to_unit(entries)
    lines = table.groupby(_LINE, sort=False)["value"].agg(["mean", "min", "max", "size"])
    lines.columns = pd.Index(["value", "low", "high", "seeds"])
    return lines.reset_index()[list(COLUMNS)]


def nats_to_unit(entries: Sequence[Entry]) -> float:
    """What nats are multiplied by to be in the unit of the dataset's tables."""
    quantity, nats = quantity_of(entries), likelihood_of(entries)
    if quantity.unit == nats.unit:
        return 1.0
    for entry in entries:
        bits, value = entry.number(quantity.column), entry.number(nats.column)
        if bits is not None and value:
            return bits / value
    return _by_shape(entries[0].planned.trial.dataset.name, quantity)


def _by_shape(dataset: str, quantity: Quantity) -> float:
    """1 / (D ln 2), which is how bits/dim are defined; before any trial has ended."""
    try:
        shape = declare(dataset).event_shape
    except HarnessError:
        shape = None
    if shape is None:
        raise ValueError(f"{dataset}: {quantity.unit} without a declared shape")
    return 1 / (math.prod(shape) * math.log(2))


def _thinned(table: pd.DataFrame, points: int) -> pd.DataFrame:
    """Curves averaged over spans of steps that all seeds of a line share.

    A trial writes at its own steps, by how fast it was: means over seeds need steps in common.
    """
    steps = table.groupby(_SEEDS, sort=False)["step"]
    low, high, distinct = (steps.transform(what) for what in ("min", "max", "nunique"))
    own = table.groupby(_CURVE, sort=False)["step"].transform("nunique")
    usual = own.groupby([table[name] for name in _SEEDS], sort=False).transform("median")
    spans = usual.clip(upper=points).astype(int)
    # Curves with the same few steps keep them: each step is a span of its own.
    few = (distinct == usual) & (distinct <= points)
    span = ((table["step"] - low) * spans // (high - low + 1)).where(~few, table["step"])
    table = table.assign(span=span)
    shared = table.groupby([*_SEEDS, "span"], sort=False)["step"].transform("mean")
    table = table.assign(step=shared.round().astype(int))
    means = table.groupby(["trial", "span", *_LINE], sort=False)["value"].mean()
    return means.reset_index()
