"""The store of MLflow: how it is reached, and how the run of a record is looked up in it."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from harness.errors import HarnessError
from harness.records.mlflow_address import database_of, is_server, sentence, shown
from harness.records.mlflow_database import (
    EXPERIMENT,
    PATIENCE_S,
    REMEDY,
    TrackingError,
    UnusableDatabase,
    is_unusable,
    require_unlocked,
)

__all__ = [
    "connected",
    "experiment_id",
    "imported_client",
    "make_tables",
    "newest_runs",
    "runs_of",
]


_FEW = 50
"""More trials than these are searched for in one query, with all others."""


def newest_runs(client: Any, trial_ids: Collection[str] | None) -> dict[str, Any]:  # noqa: ANN401
    """The run of each trial; of several records of one trial, the one that finished last."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return {}
    complete = [
        run
        for runs in runs_of(client, experiment.experiment_id, trial_ids).values()
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
    """Id of the experiment that holds all runs, which is created if it is not there.

    One that somebody deleted keeps its name and its runs, and is restored.
    """
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return str(client.create_experiment(EXPERIMENT))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def make_tables(uri: str) -> None:
    """Makes the tables and the experiment of a new database."""
    with connected(uri) as client:
        experiment_id(client)


@contextmanager
def connected(uri: str, writing: bool = True) -> Iterator[Any]:
    """A client of the store; whatever MLflow raises becomes a TrackingError.

    Arguments:
        uri: The tracking store.
        writing: False for one that may be read only.

    Raises:
        TrackingError: MLflow is not installed, does not answer within seconds, or refused.
        UnusableDatabase: The database is damaged, half made, or of another version of MLflow.
    """
    if database_of(uri) is not None:
        # No connection outlives its use: the file may be replaced by another.
        os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    client_of = imported_client()
    try:
        require_unlocked(uri, writing)
        _require_answer(uri, client_of)
        yield client_of(tracking_uri=uri)
    except HarnessError:
        raise
    except Exception as error:
        # MLflow lets errors of sqlalchemy, requests and the operating system through.
        detail = sentence(str(error), uri) or type(error).__name__
        if database_of(uri) is not None and is_unusable(error):
            raise UnusableDatabase(f"{shown(uri)}: {detail}; {REMEDY}") from error
        raise TrackingError(
            f"MLflow at {shown(uri)}: {detail}; the records have everything: 'harness sync' goes "
            "on when it answers"
        ) from error


def imported_client() -> Any:  # noqa: ANN401
    """MLflow's client, imported the first time, which takes seconds.

    Raises:
        TrackingError: MLflow is not installed.
    """
    # MLflow reads these on import. Its own retries would block each call for minutes.
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", f"{PATIENCE_S:.0f}")
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
    return MlflowClient


def _require_answer(uri: str, client_of: Any) -> None:  # noqa: ANN401
    """Asks a server for something small, and gives it some seconds in all.

    A time limit of the HTTP library alone is not kept by a name that is not resolved, or by a
    server that sends a byte now and then.

    Raises:
        TrackingError: There is no answer.
    """
    # How often a database that refuses is asked again: by default for an hour.
    with suppress(ImportError):
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = 1
    if not is_server(uri):
        _require_listener(uri)
        return
    raised: list[Exception] = []

    def ask() -> None:
        try:
            client_of(tracking_uri=uri).get_experiment_by_name(EXPERIMENT)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if thread.is_alive():
        raise TrackingError(
            f"MLflow at {shown(uri)} has not answered for {PATIENCE_S:g} s; the records have "
            "everything: 'harness sync' goes on when it does"
        )
    if raised:
        raise raised[0]


def _require_listener(uri: str) -> None:
    """Raises OSError if nobody listens where a database server should."""
    try:
        place = urlsplit(uri)
        host, port = place.hostname, place.port
    except ValueError:  # MLflow has its own words for it
        return
    if host and port:
        socket.create_connection((host, port), timeout=PATIENCE_S).close()
