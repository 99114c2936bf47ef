"""The store of MLflow: how it is reached, and how the run of a record is looked up in it."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import uuid
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.records.files import storing

__all__ = [
    "TrackingError",
    "connected",
    "experiment_id",
    "locked",
    "make_database",
    "mirrored",
    "newest_runs",
    "runs_of",
    "tracking_uri",
]

_EXPERIMENT = "cnf-harness"
_DATABASE = "mlflow.db"

_FEW = 50
"""More trials than these are searched for in one query, with all others."""


class TrackingError(HarnessError):
    """MLflow is not installed, does not answer, or refused."""


def tracking_uri(root: Path) -> str:
    """`MLFLOW_TRACKING_URI` if it is set; otherwise a database under the run root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / _DATABASE}"


def mirrored(root: Path) -> frozenset[tuple[str, str, str]] | None:
    """Trial, attempt and `synced` of the runs in the database under a run root.

    It is read without MLflow, whose import takes longer than a command that has nothing to do.

    Returns:
        None if the mirror is elsewhere, or if this is no database as this version knows it: then
        MLflow itself has to be asked.
    """
    path = root.resolve() / _DATABASE
    if os.environ.get("MLFLOW_TRACKING_URI") or not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return frozenset(database.execute(_MIRRORED, (_EXPERIMENT,)))
    except sqlite3.Error:
        return None


_MIRRORED = """
SELECT trial.value, attempt.value, coalesce(synced.value, '')
FROM runs
JOIN experiments ON experiments.experiment_id = runs.experiment_id
JOIN tags AS trial ON trial.run_uuid = runs.run_uuid AND trial.key = 'trial_id'
JOIN tags AS attempt ON attempt.run_uuid = runs.run_uuid AND attempt.key = 'attempt_id'
LEFT JOIN tags AS synced ON synced.run_uuid = runs.run_uuid AND synced.key = 'synced'
WHERE experiments.name = ? AND runs.lifecycle_stage = 'active'
"""


def newest_runs(client: Any, trial_ids: Collection[str] | None) -> dict[str, Any]:  # noqa: ANN401
    """The run of each trial; of several records of one trial, the one that finished last."""
    complete = [
        run
        for runs in runs_of(client, experiment_id(client), trial_ids).values()
        for run in runs
        if "synced" in run.data.tags
    ]
    complete.sort(key=lambda run: run.data.metrics["finished_ms"])
    return {run.data.tags["trial_id"]: run for run in complete}


def runs_of(
    client: Any,  # noqa: ANN401
    experiment: str,
    trial_ids: Collection[str] | None,
) -> dict[tuple[str, str], list[Any]]:
    """Runs by trial and attempt; a few trials are asked for one by one, many with all others."""
    wanted = None if trial_ids is None else frozenset(trial_ids)
    filters = [""]
    if wanted is not None and len(wanted) <= _FEW:
        filters = [f"tags.trial_id = '{trial_id}'" for trial_id in wanted]
    groups: dict[tuple[str, str], list[Any]] = {}
    for text in filters:
        for run in _search(client, experiment, text):
            tags = run.data.tags
            trial_id = tags.get("trial_id", "")
            if wanted is None or trial_id in wanted:
                groups.setdefault((trial_id, tags.get("attempt_id", "")), []).append(run)
    return groups


def _search(client: Any, experiment: str, text: str) -> Iterator[Any]:  # noqa: ANN401
    """The runs that match a filter of MLflow, page by page."""
    token: str | None = None
    while True:
        page = client.search_runs([experiment], text, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def experiment_id(client: Any) -> str:  # noqa: ANN401
    """Id of the experiment that holds all runs, which is created if it is not there."""
    experiment = client.get_experiment_by_name(_EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    return str(client.create_experiment(_EXPERIMENT))


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """One exporter at a time; a fresh database does not survive two.

    Raises:
        StorageError: The run root cannot be written.
    """
    with storing(root):
        file = open(root / ".mlflow.lock", "w", encoding="utf-8")  # noqa: SIM115
    with file:
        # Some file systems have no locks; then nobody has to wait.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_database(root: Path) -> None:
    """Makes the database under a run root, unless it is there or another store is named.

    MLflow makes its tables one by one, and a database whose making was cut short, by a kill or a
    full disk, is unusable for good: it gets its name when it is whole. To be called under the
    lock.

    Raises:
        TrackingError: MLflow is not installed, or the disk is full.
    """
    path = root / _DATABASE
    if os.environ.get("MLFLOW_TRACKING_URI") or path.exists():
        return
    for left in root.glob(f".{_DATABASE}.*"):
        left.unlink(missing_ok=True)
    aside = path.with_name(f".{_DATABASE}.{uuid.uuid4().hex}")
    try:
        with connected(f"sqlite:///{aside.resolve()}") as client:
            experiment_id(client)
        with storing(path):
            os.replace(aside, path)
    finally:
        for left in root.glob(f"{aside.name}*"):
            left.unlink(missing_ok=True)


@contextmanager
def connected(uri: str) -> Iterator[Any]:
    """A client of the store; whatever MLflow raises becomes a TrackingError."""
    # MLflow reads these on import. Its own retries would block each call for minutes.
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
