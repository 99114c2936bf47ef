"""Records as tables: one row a trial, and the curves of its training.

Every table and figure starts from these two, whether they come from the run folder or from MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import RecordError
from harness.flat import Scalar, flatten_result
from harness.labels import LABELS, label
from harness.trial import Trial, canonical, decode

__all__ = ["HISTORY_COLUMNS", "frame_of", "history", "history_of", "load", "row"]

HISTORY_COLUMNS = ("trial_id", "metric", "step", "value", "timestamp_ms")
_FIRST = ("trial_id", *LABELS, "status", "message")
_NOT_CURVES = frozenset({"step", "timestamp_ms"})


def load(root: Path | str) -> pd.DataFrame:
    """Reads all committed records under a run root.

    Arguments:
        root: The run root, which holds `trials/<trial_id>/`.

    Returns:
        One row a trial, sorted by id. Columns: `trial_id`; the labels of the trial (`dataset`,
        `backend`, `solver`, `regularizer`, ...); `seed`; `spec`, its canonical JSON; `status`,
        `message`; and dotted names for all numbers: `metrics.test_nll` (its unit and n in
        `metrics.test_nll.unit`, `.n`), `timing.step_s.median` (s), `nfe.train.forward.mean`,
        `memory.peak_host_bytes`, `environment.<name>`. What was not measured is NaN. Trials
        without a committed result have no row.

    Raises:
        RecordError: A record is damaged; the message names the file.
    """
    folders = sorted(path.parent for path in Path(root).glob("trials/*/result.json"))
    return frame_of(
        row(_read_json(folder / "spec.json")["trial"], _read_json(folder / "result.json"))
        for folder in folders
    )


def row(spec: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Scalar]:
    """Flattens one record into the columns of `load`.

    Arguments:
        spec: The encoded trial.
        result: What `result.json` holds.

    Raises:
        RecordError: The spec is no trial of this version.
    """
    try:
        trial: Trial = decode(Trial, spec)
    except (KeyError, TypeError) as error:
        name = result.get("trial_id", "?")
        raise RecordError(f"trial {name}: its spec.json is damaged: {error}") from error
    return {
        **label(trial),
        "seed": trial.seed,
        "spec": canonical(trial),
        **flatten_result(result),
    }


def frame_of(rows: Iterable[Mapping[str, Scalar]]) -> pd.DataFrame:
    """Builds the table of `load`; the order of columns does not depend on that of the rows."""
    found = list(rows)
    others = sorted({name for row in found for name in row} - set(_FIRST))
    frame = pd.DataFrame(found, columns=[*_FIRST, *others])
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
            list(_lines(path))
            for path in Path(root).glob(f"trials/{trial_id}/attempt-*/metrics.jsonl")
        ]
        attempts.sort(key=lambda lines: lines[0]["timestamp_ms"] if lines else 0)
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from error
    return value


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield json.loads(text)
        except ValueError:
            # A kill leaves at most the last line of an attempt torn.
            return
