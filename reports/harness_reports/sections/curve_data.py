"""The points of the learning curves, few enough for a page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness_reports.trials.entries import Entry
from harness_reports.trials.groups import groups_of, setting_names
from harness_reports.trials.quantities import ELBO, NLL

__all__ = ["POINT_COLUMNS", "TRIAL_COLUMNS", "curve_table"]

TRIAL_COLUMNS = ("trial", "backend", "seed", "panel")
"""What all points of a trial share, by its id."""

POINT_COLUMNS = ("trial", "step", "value", "split")

_COLUMNS = list(dict.fromkeys((*POINT_COLUMNS, *TRIAL_COLUMNS)))
_SPLITS = {
    **{quantity.curve: "training" for quantity in (NLL, ELBO)},
    **{f"val_{quantity.curve}": "validation" for quantity in (NLL, ELBO)},
    "nfe_forward": "solve",
}
_CURVE = ["trial", "split"]


def curve_table(entries: Sequence[Entry], history: pd.DataFrame, points: int) -> pd.DataFrame:
    """The points of the charts of one dataset.

    Arguments:
        entries: Trials of one dataset.
        history: All curves, as `harness.records.frame.history` gives them.
        points: A curve with more is averaged over so many equal spans of steps.

    Returns:
        Columns `trial step value split backend seed panel`, in the order of the tables; split is
        `training` (NLL or negative ELBO of the batch, nats), `validation` (nats) or `solve`
        (evaluations a solve).
    """
    groups = groups_of(entries)
    names = setting_names(groups)
    trials = pd.DataFrame(
        [
            (entry.id, group.labels["backend"], str(entry.seed), group.title(names))
            for group in groups
            for entry in group.entries
        ],
        columns=list(TRIAL_COLUMNS),
    )
    drawn = history[history["metric"].isin(list(_SPLITS))]
    table = trials.merge(drawn, left_on="trial", right_on="trial_id")
    if table.empty:
        return pd.DataFrame(columns=_COLUMNS)
    return _thinned(table.assign(split=table["metric"].map(_SPLITS)), points)[_COLUMNS]


def _thinned(table: pd.DataFrame, points: int) -> pd.DataFrame:
    curves = table.groupby(_CURVE, sort=False)["step"]
    low, high = curves.transform("min"), curves.transform("max")
    span = (table["step"] - low) * points // (high - low + 1)
    # A short curve keeps its points: each step is a span of its own.
    span = span.where(curves.transform("size") > points, table["step"])
    spans = table.assign(span=span).groupby([*_CURVE, "span"], sort=False)
    shared = {name: "first" for name in TRIAL_COLUMNS if name not in _CURVE}
    means = spans.agg({"step": "mean", "value": "mean", **shared})
    return means.assign(step=means["step"].round().astype(int)).reset_index()
