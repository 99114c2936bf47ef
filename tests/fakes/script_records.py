"""Runs the scripts of trials in one backend and compares what they print with what it computes.

    python script_records.py BACKEND FOLDER

The records are made here, of models with random arrays: the harness's own evaluation is the
number of the record. Prints a line of JSON a case: name, number of the script, of the record,
lines of the script.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.backends import get_backend
from harness.commands.script import script
from harness.datasets import registry as datasets
from harness.measuring.evaluator import Evaluator
from harness.records.arrays import seal
from harness.records.folder import TrialFolder
from harness.records.result import Result
from harness.records.status import Status
from harness.records.trained import TrainedFolder, TrainedRecord
from harness.specs.resources import Resources
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    BatchNorm,
    DatasetRef,
    EndTime,
    Evaluation,
    FixedSolver,
    ModelSpec,
    SolverSpec,
    Trial,
)

DOPRI5 = AdaptiveSolver("dopri5", 1e-5, 1e-5)
SOLVERS: dict[str, tuple[SolverSpec, ...]] = {
    "torch": (
        DOPRI5,
        AdaptiveSolver("bosh3", 1e-3, 1e-4, norm="rms_all"),
        AdaptiveSolver("dopri8", 1e-5, 1e-5, first_step="whole"),
        AdaptiveSolver("dopri5", 1e-4, 1e-4, end="interpolate"),
        FixedSolver("rk4_38", 4),
        FixedSolver("heun2", 6),
        FixedSolver("euler", 8),
        FixedSolver("midpoint", 5),
    ),
    "jax": (
        DOPRI5,
        AdaptiveSolver("bosh3", 1e-3, 1e-4, norm="rms_all"),
        AdaptiveSolver("dopri8", 1e-5, 1e-5),
        AdaptiveSolver("tsit5", 1e-4, 1e-4),
        FixedSolver("rk4_38", 4),
        FixedSolver("rk4_classic", 4),
        FixedSolver("heun2", 6),
        FixedSolver("euler", 8),
    ),
}
LAYERS: tuple[tuple[Any, Any], ...] = (
    ("concatsquash", "tanh"),
    ("hyper", "softplus"),
    ("concat", "elu"),
    ("blend", "swish"),
    ("concat_v2", "relu"),
    ("squash", "square"),
    ("ignore", "softplus"),
    ("concatcoord", "identity"),
)


def cases(backend: str) -> dict[str, Trial]:
    """Every layer, nonlinearity and solver once, and what else a page can hold."""
    found = {}
    for solver, (layer, nonlinearity) in zip(SOLVERS[backend], LAYERS, strict=True):
        model = ModelSpec(layer, (6, 5), nonlinearity, end_time=EndTime(0.7))
        found[f"{layer} {solver.name}"] = _trial(backend, "moons", model, solver)
    table = ModelSpec("concatsquash", (16, 16), "softplus", blocks=2, batch_norm=BatchNorm())
    found["a table"] = _trial(backend, "standin-8d", table, DOPRI5)
    spectral = ModelSpec("concatsquash", (8,), "tanh", spectral_norm=True, residual=True)
    found["pixels"] = _trial(backend, "digits", spectral, FixedSolver("rk4_38", 4))
    pairs = found.items()
    single = {
        f"{k}, float32": replace(v, precision="float32")
        for k, v in pairs
        if k in ("concatsquash dopri5", "a table")
    }
    return found | single


def _trial(backend: str, dataset: str, model: ModelSpec, solver: SolverSpec) -> Trial:
    return Trial(
        dataset=DatasetRef(dataset, datasets.declare(dataset).digest),
        backend=backend,
        solver=solver,
        model=model,
        evaluation=Evaluation(rows=30, batch=20),
        precision="float64",
    )


def record(trial: Trial, root: Path) -> float:
    """Writes the record of a model with random arrays; returns its test likelihood."""
    backend, dataset = get_backend(trial.backend), datasets.load(trial.dataset.name)
    backend.prepare(trial, 1)
    model = backend.open(trial, dataset.info, "cpu")
    arrays = {
        name: (value + 0.2 * Stream(0, name).uniform(value.shape)).astype(value.dtype)
        for name, value in model.arrays().items()
    }
    model.load_arrays(arrays)
    evaluator = Evaluator(trial, model, dataset, lambda: None)
    score = evaluator.score("test", evaluator.chunks("test", trial.evaluation.rows))
    folder = TrialFolder(root, trial.id)
    folder.write_spec(trial, Resources())
    lines = folder.begin("a") / "metrics.jsonl"
    lines.write_text("")
    trained = TrainedRecord(trial.id, "a", {}, {}, {}, None, False, 0, None, None, 0)
    TrainedFolder(root, trial.training_id).commit(trained, seal(arrays, {}), lines)
    metrics = {"test_nll": {"value": score.nll, "unit": "nats", "n": score.n}}
    Result(Status.OK, metrics=metrics).commit(folder, "a")
    return score.nll


def printed(path: Path) -> str:
    """What a script prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runpy.run_path(str(path), run_name="__main__")
    return out.getvalue()


def main(backend: str, folder: Path) -> None:
    """Runs all cases."""
    for number, (name, trial) in enumerate(cases(backend).items()):
        expected = record(trial, folder / "runs")
        out = folder / f"script-{number}"
        text = script(trial.id, folder / "runs", out=out)
        assert "import harness" not in text
        assert "from harness" not in text
        said = printed(out / "mwe.py")
        assert repr(expected) in said
        number_said = float(said.split()[1])
        print(json.dumps([name, number_said, expected, len(text.splitlines())]), flush=True)
    np.testing.assert_equal(len(list(folder.glob("script-*"))), len(cases(backend)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
