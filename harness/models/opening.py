"""Finds the arrays of a trained model and opens them, in the backend that trained them or another.

Arrays are portable: their names, shapes and meaning are those of `harness.architecture.arrays`,
whoever trained them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness.backends import get_backend, require
from harness.datasets import registry as datasets
from harness.datasets.base import Dataset
from harness.errors import AnswerError, Problem
from harness.interface import Arrays, Backend, Model
from harness.records.arrays import unpack
from harness.records.folder import TrialFolder, find_trial
from harness.records.trained import TrainedFolder
from harness.trial import Evaluation, Trial

__all__ = ["Opened", "arrays_of", "open_model", "used_as"]


@dataclass(frozen=True)
class Opened:
    """A model with the arrays of a training.

    Arguments:
        spec: The trial that is recorded.
        trial: The trial as it is opened: in another backend, under another evaluation.
        arrays: The arrays.
        backend: Who computes.
        model: The model.
        dataset: What its data are; it may have no rows.
        cores: Cores that it may use.
    """

    spec: Trial
    trial: Trial
    arrays: Arrays
    backend: Backend
    model: Model
    dataset: Dataset
    cores: int


def open_model(
    root: Path,
    beginning: str,
    *,
    backend: str | None,
    evaluation: Evaluation | None,
    device: Literal["cpu", "gpu"],
    cores: int,
) -> Opened:
    """Opens the trained model of a trial.

    Arguments:
        root: The run root.
        beginning: Id of the trial, or a beginning of it.
        backend: Who computes; None: the one that trained.
        evaluation: Solver, trace and batch; None: those of the trial.
        device: Where.
        cores: Cores that it may use.

    Raises:
        InputError: There is no such trial or backend.
        AnswerError: It has no trained model, or the backend cannot run it.
        DataError: What its data are follows from a file that is not there.
        RecordError: A record is damaged.
        BackendError: The backend is not installed, or the device is not there.
    """
    folder = find_trial(root, beginning)
    spec, _ = folder.read_spec()
    arrays = arrays_of(folder, spec)
    trial = used_as(spec, backend or spec.backend, evaluation, device)
    chosen = get_backend(trial.backend)
    require(chosen)
    unsupported = chosen.supports(trial)
    if unsupported is not None:
        raise AnswerError(
            [
                Problem(
                    f"trial {spec.id}",
                    f"the {chosen.name} backend cannot run it: {unsupported.reason}",
                    fix="choose another solver for its evaluation, as evaluation.solver={name: "
                    "dopri5, rtol: 1e-5, atol: 1e-5}, or another backend",
                )
            ]
        )
    dataset = datasets.outline(spec.dataset.name, spec.dataset.digest)
    chosen.prepare(trial, cores)
    model = chosen.open(trial, dataset.info, device)
    model.load_arrays(arrays)
    return Opened(spec, trial, arrays, chosen, model, dataset, cores)


def used_as(
    spec: Trial, backend: str, evaluation: Evaluation | None, device: Literal["cpu", "gpu"]
) -> Trial:
    """The trial without what matters to a training alone.

    So a backend need not be able to train it, and compiles nothing that only a training repays.
    TF32 is a matter of products on a GPU; elsewhere its arrays are float32.
    """
    evaluation = evaluation or spec.evaluation
    return replace(
        spec,
        identity=spec.id,
        backend=backend,
        evaluation=evaluation,
        solver=evaluation.solver or spec.solver,
        gradient="direct" if spec.gradient == "auto" else spec.gradient,
        regularizer={},
        training=replace(spec.training, iterations=1),
        precision="float32" if (spec.precision, device) == ("tf32", "cpu") else spec.precision,
    )


def arrays_of(folder: TrialFolder, spec: Trial) -> Arrays:
    """The arrays that a trial keeps.

    Raises:
        AnswerError: It has not been trained to its end.
        RecordError: They are damaged.
    """
    shared = TrainedFolder(folder.root, spec.training_id)
    record = shared.read()
    if record is not None:
        return unpack(shared.model(record.attempt_id))
    # Records of before trained models were committed on their own.
    result = folder.read_result()
    if result is not None:
        path = folder.attempt(str(result["attempt_id"])) / "model.safetensors"
        if path.is_file():
            return unpack(path)
    raise AnswerError(
        [
            Problem(
                f"trial {spec.id}",
                "has no trained model yet",
                fix="run its suite to the end, then ask again; `harness show` says how it stands",
            )
        ]
    )
