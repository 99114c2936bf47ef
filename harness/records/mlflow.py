"""MLflow as a mirror of the records, written by one exporter and complete enough to report from.

A record becomes one run. Its params are the flattened spec; its metrics the history, with the
original timestamps, and all numbers of result.json under their dotted names; its tags the texts of
result.json. What MLflow's own pages show at once is in `mlflow_shown`. The tags `trial_id` and
`attempt_id` identify the run of a record, and the tag `synced` is written last: an export that is
killed anywhere is completed by the next, without a second run or a second point.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.labels import label, short_name
from harness.records.columns import PARTS, Scalar, flatten, result_columns, trial_columns
from harness.records.files import dumps
from harness.records.folder import Damaged, Record, read_records
from harness.records.mlflow_address import database_of, shown
from harness.records.mlflow_database import (
    DATABASE,
    TrackingError,
    UnusableDatabase,
    locked,
    make_database,
    mirrored,
    renew_database,
    sqlite_uri,
    tracking_uri,
)
from harness.records.mlflow_shown import dataset_input, is_shown, shown_numbers, shown_tags
from harness.records.mlflow_store import (
    connected,
    experiment_id,
    imported_client,
    make_tables,
    newest_runs,
    runs_of,
)
from harness.records.status import Status
from harness.trial import Trial, canonical, decode, encode

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TrackingError", "history", "load", "sync", "tracking_uri"]

VERSION = 2
"""Version of what a run holds; part of `synced`, so that a new one exports all records again."""

_POINTS, _TAGS, _PARAMS = 1000, 100, 100
"""What MLflow takes in one call, at most."""
_TAG_LENGTH, _PARAM_LENGTH = 5000, 6000
"""Characters that MLflow keeps of a text, at most; the rest would be cut off."""
_PART = "/part-"

_NUMBERS = tuple(f"{part}." for part in PARTS)
_HEAD_NUMBERS = frozenset({"attempts", "finished_ms"})
_TEXT = "record."


def sync(
    root: Path,
    uri: str | None = None,
    trial_ids: Collection[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> int:
    """Brings the mirror up to date with the committed records; does nothing twice.

    Arguments:
        root: The run root.
        uri: The tracking store; None means `tracking_uri(root)`.
        trial_ids: Only these trials, no record of another is read; None means all.
        say: Hears a line if the mirror was unusable and all records were exported to a new one.

    Returns:
        Number of records that were written.

    Raises:
        TrackingError: MLflow is not installed, does not answer, or refused; what was written so
            far is kept, and the next call goes on.
        RecordError: Records are damaged; it names them, and all others are exported.
    """
    store = uri or tracking_uri(root)
    records, damaged = _read(root, trial_ids)
    try:
        written = _write(root, store, trial_ids, records) if records else 0
    except UnusableDatabase:
        # What else there is in a database that a user names cannot be made again.
        if store != _own(root):
            raise
        with locked(root, store):
            old = renew_database(root, make_tables)
        if say is not None:
            say(f"{shown(store)} was unusable and is made anew; the old one is {old.name}")
        written = _write(root, store, None, _read(root, None)[0])
    damaged.refuse()
    return written


def _read(root: Path, trial_ids: Collection[str] | None) -> tuple[list[_Record], Damaged]:
    """What can be exported, and what is damaged."""
    records: list[_Record] = []
    damaged = Damaged()
    with damaged:
        for record in read_records(root, trial_ids):
            with damaged:
                records.append(_exportable(record))
    return records, damaged


def _write(
    root: Path, uri: str, trial_ids: Collection[str] | None, records: Sequence[_Record]
) -> int:
    """Writes what the mirror does not have; returns the number of records written."""
    if database_of(uri) == root.resolve() / DATABASE and _is_complete(root, records):
        return 0
    # Before the lock: importing MLflow takes seconds.
    imported_client()
    with locked(root, uri):
        make_database(root, uri, make_tables)
        with connected(uri) as client:
            return _bring_up_to_date(client, root, trial_ids, records)


def _own(root: Path) -> str:
    """The address of the mirror under a run root."""
    return sqlite_uri(root.resolve() / DATABASE)


def _is_complete(root: Path, records: Sequence[_Record]) -> bool:
    """True if the mirror is sure to have all these records and none that they replaced."""
    runs = mirrored(root)
    if runs is None:
        return False
    wanted = {(each.trial_id, each.attempt_id, each.digest) for each in records}
    replaced = {(each.trial_id, attempt) for each in records for attempt in each.replaced}
    return wanted <= runs and replaced.isdisjoint({run[:2] for run in runs})


def _bring_up_to_date(
    client: Any,  # noqa: ANN401
    root: Path,
    trial_ids: Collection[str] | None,
    records: Sequence[_Record],
) -> int:
    experiment = experiment_id(client)
    existing = runs_of(client, experiment, trial_ids)
    written = 0
    for record in records:
        for attempt_id in record.replaced:
            for run in existing.get((record.trial_id, attempt_id), ()):
                client.delete_run(run.info.run_id)
        runs = existing.get((record.trial_id, record.attempt_id), [])
        if runs and runs[0].data.tags.get("synced") == record.digest:
            continue
        _export(client, experiment, record, root, runs[0].info.run_id if runs else None)
        written += 1
    return written


def load(
    root: Path, uri: str | None = None, trial_ids: Collection[str] | None = None
) -> pd.DataFrame:
    """Rebuilds the table of `harness.load` from the mirror.

    Arguments:
        root: The run root that the records came from.
        uri: The tracking store; None means `tracking_uri(root)`.
        trial_ids: Only these trials; None means all.

    Raises:
        TrackingError: MLflow is not installed or does not answer.
    """
    from harness.records.frame import frame_of

    with _reading(root, uri) as client:
        return frame_of(_row(run) for run in newest_runs(client, trial_ids).values())


def history(root: Path, trial_ids: Collection[str], uri: str | None = None) -> pd.DataFrame:
    """Rebuilds the table of `harness.records.frame.history` from the mirror.

    Arguments:
        root: The run root that the records came from.
        trial_ids: Trials to read.
        uri: The tracking store; None means `tracking_uri(root)`.

    Raises:
        TrackingError: MLflow is not installed or does not answer.
    """
    from harness.records.frame import history_of

    with _reading(root, uri) as client:
        runs = newest_runs(client, trial_ids)
        return history_of(
            (trial_id, name, point.step, point.value, point.timestamp)
            for trial_id, run in runs.items()
            for name in run.data.metrics
            if not (_is_final(name) or is_shown(name))
            for point in client.get_metric_history(run.info.run_id, name)
        )


@contextmanager
def _reading(root: Path, uri: str | None) -> Iterator[Any]:
    """A client of a store that is there; MLflow would make one."""
    store = uri or tracking_uri(root)
    path = database_of(store)
    if path is not None and not path.exists():
        raise TrackingError(f"{shown(store)}: there is no mirror; run: harness sync")
    with connected(store, writing=False) as client:
        yield client


@dataclass(frozen=True)
class _Record:
    """What is exported of one trial; `replaced` are ids of attempts whose result was set aside."""

    trial: Trial
    trial_id: str
    attempt_id: str
    suites: tuple[str, ...]
    replaced: tuple[str, ...]
    result: Mapping[str, Any]

    @property
    def digest(self) -> str:
        content = dumps([VERSION, self.result, self.suites])
        return hashlib.sha256(content).hexdigest()[:16]


def _exportable(record: Record) -> _Record:
    folder = record.folder
    replaced = tuple(str(old["attempt_id"]) for old in folder.replaced())
    attempt_id = str(record.result["attempt_id"])
    suites = tuple(folder.suites())
    return _Record(record.trial, folder.trial_id, attempt_id, suites, replaced, record.result)


def _export(client: Any, experiment: str, record: _Record, root: Path, run_id: str | None) -> None:  # noqa: ANN401
    """Writes a record into its run, which is created if `run_id` is None."""
    from mlflow.entities import Metric, Param, RunTag

    columns = result_columns(record.result)
    finished = int(record.result["finished_ms"])
    points = [Metric(*point) for point in _points(record, root, columns, finished)]
    tags = _tags(record, columns)
    params = flatten(encode(record.trial))
    if run_id is None:
        start = min(point.timestamp for point in points)
        identity = {name: tags[name] for name in ("trial_id", "attempt_id")}
        run_id = client.create_run(
            experiment, start, identity, short_name(record.trial)
        ).info.run_id
    texts = [Param(name, str(value)[:_PARAM_LENGTH]) for name, value in params.items()]
    for some in _batches(texts, _PARAMS):
        client.log_batch(run_id, params=some)
    pieces = [RunTag(name, value) for name, value in _in_parts(tags)]
    for some in _batches(pieces, _TAGS):
        client.log_batch(run_id, tags=some)
    for some in _batches(points, _POINTS):
        client.log_batch(run_id, metrics=some)
    client.log_inputs(run_id, datasets=[dataset_input(record.trial)])
    ok = record.result["status"] == Status.OK.value
    client.set_terminated(run_id, "FINISHED" if ok else "FAILED", finished)
    client.set_tag(run_id, "synced", record.digest)


def _points(
    record: _Record, root: Path, columns: Mapping[str, Scalar], finished: int
) -> Iterator[tuple[str, float, int, int]]:
    """Name, value, time (ms) and step: the curves, then the numbers of the result."""
    from harness.records.frame import history as curves

    table: Any = curves(root, [record.trial_id])
    of_curves = (table[name] for name in ("metric", "value", "timestamp_ms", "step"))
    for name, value, at, step in zip(*of_curves, strict=True):
        yield str(name), float(value), int(at), int(step)
    last = int(columns.get("metrics.steps", record.trial.training.iterations))
    for name, value in columns.items():
        if _is_final(name, value):
            yield name, float(value), finished, last
    for name, number in shown_numbers(columns):
        yield name, number, finished, last


def _tags(record: _Record, columns: Mapping[str, Scalar]) -> dict[str, str]:
    """The texts of a run, with what is needed to rebuild its row from texts and floats alone."""
    numbers = {name: value for name, value in columns.items() if _is_final(name, value)}
    return {
        **label(record.trial),
        **shown_tags(record.trial, record.trial_id, columns),
        "trial_id": record.trial_id,
        "attempt_id": record.attempt_id,
        "status": str(record.result["status"]),
        "suites": ",".join(record.suites),
        "spec": canonical(record.trial),
        "integers": ",".join(name for name, value in numbers.items() if isinstance(value, int)),
        **{
            _TEXT + name: json.dumps(value)
            for name, value in columns.items()
            if name not in numbers
        },
    }


def _in_parts(tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Tags no longer than MLflow keeps them: a long one goes on in `name/part-1` and so on."""
    for name, value in tags.items():
        yield name, value[:_TAG_LENGTH]
        for part, start in enumerate(range(_TAG_LENGTH, len(value), _TAG_LENGTH), 1):
            yield f"{name}{_PART}{part}", value[start : start + _TAG_LENGTH]


def _joined(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a run, long ones put together again."""
    joined = {name: value for name, value in tags.items() if _PART not in name}
    for name in joined:
        part = 1
        while (more := tags.get(f"{name}{_PART}{part}")) is not None:
            joined[name] += more
            part += 1
    return joined


def _batches(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _is_final(name: str, value: Scalar = 0.0) -> bool:
    """True for a number of result.json, False for its texts and for curves."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (name in _HEAD_NUMBERS or name.startswith(_NUMBERS))


def _row(run: Any) -> dict[str, Scalar]:  # noqa: ANN401
    """A run as a row of `harness.load`."""
    tags = _joined(run.data.tags)
    trial: Trial = decode(Trial, json.loads(tags["spec"]))
    integers = set(tags["integers"].split(","))
    texts = {
        name.removeprefix(_TEXT): json.loads(value)
        for name, value in tags.items()
        if name.startswith(_TEXT)
    }
    numbers = {
        name: int(value) if name in integers else value
        for name, value in run.data.metrics.items()
        if _is_final(name)
    }
    return {**trial_columns(trial), **texts, **numbers}
