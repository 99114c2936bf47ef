"""A model that is timed: its training steps, evaluations and samplings on frozen arrays."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from harness.architecture.matching import matched
from harness.architecture.noise import draw, noise_slots
from harness.datasets.base import Dataset
from harness.interface import Arrays, Batch, Control, EvaluationReport, Model, Nfe
from harness.measuring.evaluator import NoiseKey, SolveFailed, evaluation_call
from harness.measuring.reference import evaluated_rows, log_prob, quantity_of
from harness.process.memory import memory_above
from harness.records.timings import ACTIVITIES, Activity
from harness.training.batches import training_batch
from harness.training.schedule import training_control
from harness.trial import Trial

__all__ = ["Contender"]

_WARM_UP = 3
"""Calls before the first round: warm first steps, caches and allocators settle in them."""


class Contender:
    """A model, ready to be timed.

    The learning rate is 0: trained on, the arrays of two backends would drift apart, and with
    them the evaluations of their solves. The update itself is computed all the same.

    Arguments:
        trial: The trial, its gradient mode never `auto`.
        dataset: Its data.
        model: Its model.
    """

    def __init__(self, trial: Trial, dataset: Dataset, model: Model) -> None:
        self._trial, self._dataset, self._model = trial, dataset, model
        self._fresh = model.state()
        self._calls: Mapping[Activity, Callable[[], Nfe]] = {
            "train_step": self._train_step,
            "evaluation": self._evaluate,
            "sampling": self._sample,
        }
        rows = dataset.rows("test", trial.evaluation.rows)
        self._x = evaluated_rows(trial, rows.x)
        self._log_volume = evaluated_rows(trial, rows.log_volume)
        self._batch, self._number = training_batch(trial, dataset, 0)[0], 0
        self._evaluated, self._control = evaluation_call(
            trial, self._x, NoiseKey("test", 0), log_volume=self._log_volume
        )
        shape = dataset.info.event_shape
        slots = noise_slots(trial, shape, "sample", len(self._x))
        base = draw(slots, trial.seed, 0, trial.dtype, "sample/")
        self._sampled = Batch(np.empty((0, *shape), trial.dtype), base)

    def first_step(self) -> float:
        """Compiles and takes the first training step; returns the seconds of both."""
        start = time.perf_counter()
        self._model.compile(self._batch, self._training_control())
        self._train_step()
        return time.perf_counter() - start

    def begin(self, arrays: Arrays) -> dict[Activity, float]:
        """Takes over arrays and settles; returns the seconds of a call of each activity."""
        self._model.load_arrays(arrays)
        self._model.load_state(self._fresh)
        self._turn(0)
        return {name: min(self._timed(name, 1)[0] for _ in range(_WARM_UP)) for name in ACTIVITIES}

    def round(self, number: int, repeats: Mapping[Activity, int]) -> dict[str, Any]:
        """Times all activities once.

        Arguments:
            number: The batch of this step of the training is the batch of the round.
            repeats: How many calls one time is averaged over.

        Returns:
            `seconds` of a call by activity; `nfe` by activity and kind, summed over blocks.
        """
        self._turn(number)
        seconds: dict[Activity, float] = {}
        nfe: dict[Activity, dict[str, int]] = {}
        for name in ACTIVITIES:
            seconds[name], counts = self._timed(name, repeats[name])
            nfe[name] = {kind: sum(blocks) for kind, blocks in asdict(counts).items() if blocks}
        return {"seconds": seconds, "nfe": nfe}

    def step_bytes(self) -> int | None:
        """Host memory of a training step above what the process held before it."""
        return memory_above(self._train_step)

    def log_prob(self) -> list[float]:
        """Log p of the first rows of the evaluation."""
        return log_prob(self._model, self._trial, self._x, self._log_volume)

    def _turn(self, number: int) -> None:
        self._number = number
        self._batch = training_batch(self._trial, self._dataset, number)[0]

    def _timed(self, name: Activity, repeats: int) -> tuple[float, Nfe]:
        """Seconds of a call, averaged over some, and the evaluations of the last."""
        call = self._calls[name]
        self._model.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            nfe = call()
            self._model.synchronize()
        return (time.perf_counter() - start) / repeats, nfe

    def _training_control(self) -> Control:
        return training_control(self._trial, self._number, lr=0.0)

    def _train_step(self) -> Nfe:
        batch = matched(self._trial, self._batch)
        report = self._model.train_step(batch, self._training_control()).fetch()
        _require("a training step", report.failure)
        if not math.isfinite(report.loss):
            raise SolveFailed("the loss of a training step is not finite")
        return report.nfe

    def _evaluate(self) -> Nfe:
        quantities = (quantity_of(self._trial),)
        return _counts(self._model.evaluate(self._evaluated, self._control, quantities))

    def _sample(self) -> Nfe:
        return _counts(self._model.sample(self._sampled, self._control))


def _counts(report: EvaluationReport) -> Nfe:
    _require("an evaluation or a sampling", report.failure)
    return report.nfe


def _require(what: str, failure: str | None) -> None:
    if failure:
        raise SolveFailed(f"{what} did not finish: {failure}")
