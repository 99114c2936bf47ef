"""The points of the learning curves, few enough for a page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness_reports.trials.entries import Entry
from harness_reports.trials.groups import Group, groups_of, varying

__all__ = ["COLUMNS", "curve_table"]

COLUMNS = ("trial", "step", "value", "split", "backend", "seed", "panel")
_SPLITS = {
    "nll": "training",
    "val_nll": "validation",
    "neg_elbo": "training",
    "val_neg_elbo": "validation",
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
    extra = varying(groups)
    known = pd.DataFrame(
        [
            {
                "trial": entry.id,
                "backend": group.labels["backend"],
                "seed": str(entry.seed),
                "panel": _panel(group, extra),
            }
            for group in groups
            for entry in group.entries
        ]
    )
    found = history[history["metric"].isin(list(_SPLITS))]
    table = known.merge(found, left_on="trial", right_on="trial_id")
    if table.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    return _thinned(table.assign(split=table["metric"].map(_SPLITS)), points)[list(COLUMNS)]


def _thinned(table: pd.DataFrame, points: int) -> pd.DataFrame:
    curves = table.groupby(_CURVE, sort=False)["step"]
    low, high = curves.transform("min"), curves.transform("max")
    span = (table["step"] - low) * points // (high - low + 1)
    # A short curve keeps its points: each step is a span of its own.
    span = span.where(curves.transform("size") > points, table["step"])
    spans = table.assign(span=span).groupby([*_CURVE, "span"], sort=False)
    means = spans.agg(
        {"step": "mean", "value": "mean", "backend": "first", "seed": "first", "panel": "first"}
    )
    return means.assign(step=means["step"].round().astype(int)).reset_index()


def _panel(group: Group, extra: Sequence[str]) -> str:
    names = ("solver", "regularizer", *extra)
    return " · ".join(group.labels.get(name, "") for name in names)
