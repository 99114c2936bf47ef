"""The report of a suite as an artifact of a run of its own in MLflow."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from harness.records.files import storing
from harness.records.mlflow_database import tracking_uri
from harness.records.mlflow_store import connected, experiment_id

__all__ = ["ARTIFACTS", "log_report"]

ARTIFACTS = "mlartifacts"
"""Folder in a run root that `mlflow server --artifacts-destination` serves."""

_PROXIED = "mlflow-artifacts:/"


def log_report(root: Path, suite: str, report: Path) -> bool:
    """Puts a report beside the mirror, in place of the one before.

    Arguments:
        root: The run root.
        suite: Name of the suite; its run is called `report <suite>`.
        report: The HTML file; `report.md` beside it goes with it.

    Returns:
        False if there is no mirror to put it into.

    Raises:
        TrackingError: MLflow is not installed, does not answer, or refused.
        StorageError: The run root cannot be written.
    """
    uri = tracking_uri(root)
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (root / "mlflow.db").exists():
        return False
    files = [path for path in (report, report.with_name("report.md")) if path.is_file()]
    with connected(uri) as client:
        run = _run_of(client, suite)
        place = str(run.info.artifact_uri)
        if place.startswith(_PROXIED) and not uri.startswith("http"):
            # Without a server in between, the file is laid where a server will look for it.
            folder = root / ARTIFACTS / place.removeprefix(_PROXIED).lstrip("/") / "report"
            with storing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                for path in files:
                    shutil.copyfile(path, folder / path.name)
        else:
            for path in files:
                client.log_artifact(run.info.run_id, str(path), "report")
        client.set_terminated(run.info.run_id)
    return True


def _run_of(client: Any, suite: str) -> Any:  # noqa: ANN401
    """The run that holds the report of a suite, made if there is none."""
    experiment = experiment_id(client)
    runs = client.search_runs([experiment], f"tags.report_of = '{suite}'", max_results=1)
    if runs:
        return runs[0]
    note = f"Report of the suite {suite}: artifacts, report/index.html."
    tags = {"report_of": suite, "mlflow.note.content": note}
    return client.create_run(experiment, tags=tags, run_name=f"report {suite}")
