"""One JSON a result, in the `model-index` of model cards.

The Hugging Face Hub, its client and leaderboards read it: task, dataset, metrics. What it has no
place for (spec, times, counts, environment) stands beside it under `cnf-harness`.

References:
    https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.labels import trial_name
from harness.metrics.definitions import DEFINITIONS
from harness.records.files import dumps, replace
from harness.records.folder import Record
from harness.records.status import Status
from harness.trial import encode

__all__ = ["model_index", "write_results"]

_BESIDE = ("attempt_id", "finished_ms", "timing", "nfe", "memory", "environment")


def write_results(records: Iterable[Record], folder: Path) -> list[Path]:
    """Writes `results/<trial_id>.json` for each trial that ended ok."""
    place, paths = folder / "results", []
    place.mkdir(exist_ok=True)
    for record in records:
        if Status(record.result["status"]) is Status.OK:
            path = place / f"{record.folder.trial_id}.json"
            replace(path, dumps(model_index(record), indent=1))
            paths.append(path)
    return paths


def model_index(record: Record) -> dict[str, Any]:
    """One result as the metadata of a model card."""
    trial, result = record.trial, record.result
    dataset = {
        "type": trial.dataset.name,
        "name": trial.dataset.name,
        "split": "test",
        "revision": trial.dataset.digest,
    }
    return {
        "library_name": "cnf-harness",
        "tags": ["continuous-normalizing-flow", "density-estimation"],
        "model-index": [
            {
                "name": trial_name(trial),
                "results": [
                    {
                        "task": {"type": "density-estimation", "name": "Density estimation"},
                        "dataset": dataset,
                        "metrics": list(_metrics(result.get("metrics") or {})),
                    }
                ],
            }
        ],
        "cnf-harness": {
            "trial_id": record.folder.trial_id,
            "spec": encode(trial),
            **{name: result.get(name) for name in _BESIDE},
        },
    }


def _metrics(metrics: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for name, entry in metrics.items():
        if entry is None or entry["value"] is None:
            continue
        definition = DEFINITIONS.get(name)
        yield {
            "type": name,
            "name": definition.summary if definition else name,
            "value": entry["value"],
            "args": {key: value for key, value in entry.items() if key != "value"},
        }
