"""What of a record MLflow's pages show at once; the mirror is read back without any of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from harness.labels import trial_name
from harness.records.columns import Scalar, metric_of
from harness.records.durations import spent_seconds
from harness.trial import Trial

__all__ = ["dataset_input", "is_shown", "shown_numbers", "shown_tags"]

_RESULTS = ("test_", "gaussian_")
_COUNTS = ("nfe_train_", "nfe_test_", "nfe_sample_")
_WALL_CLOCK = "wall_clock_s"

_PLACE = (
    *("harness", "python", "torch", "jax", "device", "gpu", "cpu_model", "cores"),
    *("os", "git_commit", "hardware_fingerprint", "numerics_fingerprint"),
)


def is_shown(name: str) -> bool:
    """True for a metric that repeats a number of the record; no curve has such a name."""
    return name == _WALL_CLOCK or name.startswith((*_RESULTS, *_COUNTS))


def shown_numbers(columns: Mapping[str, Scalar]) -> Iterator[tuple[str, float]]:
    """Results, mean counts of evaluations (`nfe_test_forward`) and seconds, under plain names.

    Arguments:
        columns: `harness.records.columns.result_columns`.
    """
    timing = {}
    for name, value in columns.items():
        part, _, rest = name.partition(".")
        if isinstance(value, str):
            continue
        metric = metric_of(name)
        if metric is not None and metric.startswith(_RESULTS):
            yield metric, float(value)
        if part == "timing":
            timing[rest] = value
        plain = f"nfe_{rest.removesuffix('.mean').replace('.', '_')}"
        if part == "nfe" and rest.endswith(".mean") and plain.startswith(_COUNTS):
            yield plain, float(value)
    yield _WALL_CLOCK, spent_seconds(timing)


def shown_tags(trial: Trial, trial_id: str, columns: Mapping[str, Scalar]) -> dict[str, str]:
    """The environment, and a description that leads to the trial's folder.

    The folder is named as it lies in the run root: no path of a machine is in the mirror, and a
    browser follows no link from a page to a file.
    """
    place = {name: columns.get(f"environment.{name}") for name in _PLACE}
    known = {
        f"environment.{name}": str(value) for name, value in place.items() if value is not None
    }
    if "environment.git_commit" in known:
        known["mlflow.source.git.commit"] = known["environment.git_commit"]
    description = (
        f"{trial_name(trial)}\n\nRecord: `trials/{trial_id}/` in the run root; "
        f"`harness show {trial_id}`"
    )
    return {
        **known,
        "mlflow.note.content": description,
        "mlflow.source.name": "cnf-harness",
        "mlflow.source.type": "PROJECT",
    }


def dataset_input(trial: Trial) -> Any:  # noqa: ANN401
    """The dataset of a trial as MLflow logs inputs, by name and digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps(
        {"name": trial.dataset.name, "command": f"harness data {trial.dataset.name}"}
    )
    dataset = Dataset(trial.dataset.name, trial.dataset.digest[:36], "cnf-harness", source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training and test")])
