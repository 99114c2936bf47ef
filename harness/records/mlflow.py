"""MLflow as a mirror of the records, written by one exporter and complete enough to report from.

A record becomes one run: params are the flattened spec, metrics the history with its original
timestamps and all numbers of result.json under their dotted names, tags its texts. A run is found
again by the tags `trial_id` and `attempt_id`, and the tag `synced` comes last: an export that is
killed anywhere is completed by the next, without a second run or a second point.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.labels import label, trial_name
from harness.records.files import dumps
from harness.records.flat import Scalar, flatten, flatten_result
from harness.records.folder import TrialFolder, read_results, read_spec
from harness.trial import Trial, canonical, decode, encode

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EXPERIMENT", "TrackingError", "history", "load", "sync", "tracking_uri"]

EXPERIMENT = "cnf-harness"
VERSION = 1
"""Of the mirror's form; part of `synced`, so that a new form exports all records again."""
_POINTS = 1000
_FEW = 50
_NUMBERS = ("metrics.", "timing.", "nfe.", "memory.", "environment.")
_HEAD_NUMBERS = frozenset({"attempts", "finished_ms"})
_TEXT = "record."


class TrackingError(HarnessError):
    """MLflow is not installed, does not answer, or refused."""


def tracking_uri(root: Path) -> str:
    """`MLFLOW_TRACKING_URI`, else a database under the run root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def sync(
    root: Path,
    uri: str | None = None,
    suite: str | None = None,
    trial_ids: Collection[str] | None = None,
) -> int:
    """Brings the mirror up to date with the committed records; does nothing twice.

    Arguments:
        root: The run root.
        uri: The tracking store; None means `tracking_uri(root)`.
        suite: Only trials of this suite; None means all.
        trial_ids: Only these; None means all.

    Returns:
        Number of records that were written.

    Raises:
        TrackingError: MLflow is not installed, does not answer, or refused; what was written so
            far is kept, and the next call goes on.
        RecordError: A record is damaged.
    """
    records = [record for record in _records(root, trial_ids) if suite in (None, *record.suites)]
    if not records:
        return 0
    with _lock(root), _guarded(uri or tracking_uri(root)) as client:
        experiment = _experiment(client)
        ids = [record.trial_id for record in records] if trial_ids is not None else None
        existing = _runs(client, experiment, ids)
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


def load(root: Path, uri: str | None = None) -> pd.DataFrame:
    """Rebuilds the table of `harness.load` from the mirror.

    Arguments:
        root: The run root that the records came from.
        uri: The tracking store; None means `tracking_uri(root)`.

    Raises:
        TrackingError: MLflow is not installed or does not answer.
    """
    from harness.records.frame import frame_of

    with _guarded(uri or tracking_uri(root)) as client:
        return frame_of(_row(run) for run in _newest(client).values())


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

    with _guarded(uri or tracking_uri(root)) as client:
        runs = _newest(client)
        return history_of(
            (trial_id, name, point.step, point.value, point.timestamp)
            for trial_id in trial_ids
            if trial_id in runs
            for name in runs[trial_id].data.metrics
            if not _is_final(name)
            for point in client.get_metric_history(runs[trial_id].info.run_id, name)
        )


@dataclass(frozen=True)
class _Record:
    """What is exported of one trial."""

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


def _records(root: Path, trial_ids: Collection[str] | None) -> Iterator[_Record]:
    for result in read_results(root):
        trial_id = str(result["trial_id"])
        if trial_ids is not None and trial_id not in trial_ids:
            continue
        folder = TrialFolder(root, trial_id)
        trial, _ = read_spec(folder.spec)
        replaced = tuple(str(old["attempt_id"]) for old in folder.replaced())
        attempt_id = str(result["attempt_id"])
        yield _Record(trial, trial_id, attempt_id, tuple(folder.suites()), replaced, result)


def _export(client: Any, experiment: str, record: _Record, root: Path, run_id: str | None) -> None:  # noqa: ANN401
    from mlflow.entities import Metric, Param, RunTag

    from harness.records.frame import history as curves

    row, finished = flatten_result(record.result), int(record.result["finished_ms"])
    table: Any = curves(root, [record.trial_id])
    columns = (table[name] for name in ("metric", "value", "timestamp_ms", "step"))
    points = [
        Metric(str(name), float(value), int(at), int(step))
        for name, value, at, step in zip(*columns, strict=True)
    ]
    numbers = {name: value for name, value in row.items() if _is_final(name, value)}
    last = int(row.get("metrics.steps", record.trial.training.iterations))
    start = min((point.timestamp for point in points), default=finished)
    points += [Metric(name, float(value), finished, last) for name, value in numbers.items()]
    tags = {
        **label(record.trial),
        "trial_id": record.trial_id,
        "attempt_id": record.attempt_id,
        "status": str(record.result["status"]),
        "suites": ",".join(record.suites),
        "spec": canonical(record.trial),
        "integers": ",".join(n for n, value in numbers.items() if isinstance(value, int)),
        **{_TEXT + name: json.dumps(value) for name, value in row.items() if name not in numbers},
    }
    if run_id is None:
        identity = {name: tags[name] for name in ("trial_id", "attempt_id")}
        run = client.create_run(experiment, start, identity, trial_name(record.trial))
        run_id = run.info.run_id
    params = flatten({"trial": encode(record.trial)})
    client.log_batch(
        run_id,
        params=[Param(name.removeprefix("trial."), str(value)) for name, value in params.items()],
    )
    texts = [RunTag(name, value) for name, value in tags.items()]
    for begin in range(0, len(texts), 100):
        client.log_batch(run_id, tags=texts[begin : begin + 100])
    for begin in range(0, len(points), _POINTS):
        client.log_batch(run_id, metrics=points[begin : begin + _POINTS])
    ok = record.result["status"] == "ok"
    client.set_terminated(run_id, "FINISHED" if ok else "FAILED", finished)
    client.set_tag(run_id, "synced", record.digest)


def _is_final(name: str, value: Scalar = 0.0) -> bool:
    """True for a number of result.json, False for its texts and for curves."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (name in _HEAD_NUMBERS or name.startswith(_NUMBERS))


def _row(run: Any) -> dict[str, Scalar]:  # noqa: ANN401
    """A run as a row of `harness.load`."""
    tags = run.data.tags
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
    return {**label(trial), "seed": trial.seed, "spec": tags["spec"], **texts, **numbers}


def _newest(client: Any) -> dict[str, Any]:  # noqa: ANN401
    """The run of each trial; of several records of one trial, the one that finished last."""
    found: dict[str, Any] = {}
    runs = _runs(client, _experiment(client), None)
    complete = [run for group in runs.values() for run in group if "synced" in run.data.tags]
    for run in sorted(complete, key=lambda run: run.data.metrics["finished_ms"]):
        found[run.data.tags["trial_id"]] = run
    return found


def _runs(
    client: Any,  # noqa: ANN401
    experiment: str,
    trial_ids: Collection[str] | None,
) -> dict[tuple[str, str], list[Any]]:
    """All runs by trial and attempt; few trials are asked for one by one."""
    filters = [""]
    if trial_ids is not None and len(trial_ids) <= _FEW:
        filters = [f"tags.trial_id = '{trial_id}'" for trial_id in trial_ids]
    found: dict[tuple[str, str], list[Any]] = {}
    for text in filters:
        token: str | None = None
        while True:
            page = client.search_runs([experiment], text, max_results=1000, page_token=token)
            for run in page:
                tags = run.data.tags
                key = tags.get("trial_id", ""), tags.get("attempt_id", "")
                found.setdefault(key, []).append(run)
            token = page.token
            if not token:
                break
    return found


def _experiment(client: Any) -> str:  # noqa: ANN401
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(EXPERIMENT))


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One exporter at a time; a fresh database does not survive two."""
    with open(root / ".mlflow.lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _guarded(uri: str) -> Iterator[Any]:
    """A client of the store; whatever MLflow raises becomes a TrackingError."""
    # Read on import. MLflow's own retries would block for minutes a call.
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    # Nothing is stored as an artifact; the default would write the working directory's path.
    os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise TrackingError(
            "the MLflow mirror needs mlflow, which is not installed. Run: pip install "
            "'cnf-harness[mlflow]', then: harness sync"
        ) from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield MlflowClient(tracking_uri=uri)
    except HarnessError:
        raise
    except Exception as error:
        # MLflow lets errors of sqlalchemy, requests and the operating system through.
        first = str(error).strip().splitlines()
        detail = first[0] if first else type(error).__name__
        raise TrackingError(f"MLflow at {uri.split('@')[-1]}: {detail}") from error
