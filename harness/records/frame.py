"""Records as tables: one row a trial, and the curves of its training.

Every table and figure starts from these two, whether they come from the run folder or from MLflow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pandas as pd

from harness.records.columns import Scalar, row
from harness.records.folder import TrialFolder, read_records
from harness.records.readers import read_lines
from harness.trial import AXES

__all__ = ["HISTORY_COLUMNS", "frame_of", "history", "history_of", "load"]

HISTORY_COLUMNS = ("trial_id", "metric", "step", "value", "timestamp_ms")
_FIRST = ("trial_id", *AXES, "status", "message")
_NOT_CURVES = frozenset({"step", "timestamp_ms"})


def load(root: Path | str, trial_ids: Collection[str] | None = None) -> pd.DataFrame:
    """Reads the committed records under a run root.

    Arguments:
        root: The run root, which holds `trials/<trial_id>/`.
        trial_ids: Only these trials, no file of another is opened; None means all.

    Returns:
        One row a trial, sorted by id. Columns: `trial_id`; the labels of the trial (`dataset`,
        `backend`, `solver`, `regularizer`, ...); `seed`; `spec`, its canonical JSON; `status`,
        `message`; and dotted names for all numbers: `metrics.test_nll` (its unit and n in
        `metrics.test_nll.unit`, `.n`), `timing.step_s.median` (s), `nfe.train.forward.mean`,
        `memory.peak_host_bytes`, `environment.<name>`. What was not measured is NaN. Trials
        without a committed result have no row.

    Raises:
        RecordError: Records are damaged; the message names each file.
    """
    folder = Path(root)
    return frame_of(row(record.trial, record.result) for record in read_records(folder, trial_ids))


def frame_of(rows: Iterable[Mapping[str, Scalar]]) -> pd.DataFrame:
    """Builds the table of `load`; rows in another order give the same table."""
    records = list(rows)
    others = sorted({name for record in records for name in record} - set(_FIRST))
    frame = pd.DataFrame(records, columns=[*_FIRST, *others])
    return frame.sort_values("trial_id", ignore_index=True)


def history(root: Path | str, trial_ids: Iterable[str]) -> pd.DataFrame:
    """Reads the training curves of some trials.

    Where an attempt repeats steps of an interrupted one, the newest attempt counts.

    Arguments:
        root: The run root.
        trial_ids: Trials to read; one without curves contributes no rows.

    Returns:
        One row a value, sorted: `trial_id`, `metric` (`nll`, `val_nll`, `train_s`,
        `nfe_forward`, ...), `step`, `value`, `timestamp_ms`.
    """
    rows: list[tuple[str, str, int, float, int]] = []
    for trial_id in trial_ids:
        attempts = [
            read_lines(attempt / "metrics.jsonl")
            for attempt in TrialFolder(Path(root), trial_id).attempts()
        ]
        # The last line, since an attempt begins with what it took over from the one before.
        attempts.sort(key=lambda lines: lines[-1]["timestamp_ms"] if lines else 0)
        newest: dict[tuple[str, int], tuple[float, int]] = {}
        for line in (line for lines in attempts for line in lines):
            for metric, value in line.items():
                if metric not in _NOT_CURVES and value is not None:
                    newest[metric, line["step"]] = (float(value), line["timestamp_ms"])
        rows.extend((trial_id, *key, *value) for key, value in newest.items())
    return history_of(rows)


def history_of(rows: Iterable[tuple[str, str, int, float, int]]) -> pd.DataFrame:
    """Builds the table of `history` from its rows."""
    frame = pd.DataFrame(list(rows), columns=list(HISTORY_COLUMNS))
    return frame.sort_values(["trial_id", "metric", "step"], ignore_index=True)
