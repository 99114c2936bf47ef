"""The training loop: batches and steps, with validations, lines and checkpoints in between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.architecture.matching import matched
from harness.datasets.base import Dataset
from harness.interface import Batch, Control, Model, Pending, StepReport
from harness.measuring.evaluator import Evaluator, SolveFailed
from harness.measuring.measure import Trained
from harness.process.machine import LEAST_S, Meter, Usage
from harness.process.memory import Footprint, peak_host_bytes
from harness.process.watch import Interrupted, TimedOut, Watch
from harness.training.batches import training_batch
from harness.training.checkpoint import Checkpoint
from harness.training.lines import Cadence, Lines
from harness.training.schedule import is_over, learning_rate, training_control
from harness.training.totals import NFE_KINDS, Totals
from harness.training.validation import Validation
from harness.trial import Trial

__all__ = ["Surroundings", "TrainingLoop"]


@dataclass(frozen=True)
class Surroundings:
    """What a training needs beside a model and data, and what never changes its numbers.

    Arguments:
        attempt: Folder of the attempt.
        watch: Time limit, requests to stop, progress.
        cadence: When lines and checkpoints are written.
        alone: Says whether no other trial runs on this machine.
        cores: How many cores the process has.
        environment: Where the attempt runs, its numerics fingerprint included.
    """

    attempt: Path
    watch: Watch
    cadence: Cadence
    alone: Callable[[], bool]
    cores: int
    environment: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Numerics fingerprint of the attempt."""
        return str(self.environment["numerics_fingerprint"])


class _Begun(NamedTuple):
    """A step that may still be running on the device.

    Arguments:
        pending: Gives its report.
        control: How it is computed.
        log_volume: Mean log-volume of its rows: the model knows nothing of the preprocessing, and
            lines show nats of the data.
    """

    pending: Pending
    control: Control
    log_volume: float


class TrainingLoop:
    """Trains the model of a trial from where its totals stand to the last step.

    Arguments:
        evaluator: The model, its trial and its data.
        surroundings: Where it writes, and when.
        resumed: Checkpoint to go on from; None to begin.
    """

    def __init__(
        self, evaluator: Evaluator, surroundings: Surroundings, resumed: Checkpoint | None
    ) -> None:
        self.evaluator, self.surroundings = evaluator, surroundings
        self.totals = resumed.totals if resumed else Totals()
        self.compile_s = 0.0
        self.compiled_anew: int | None = None
        self.machine: Usage | None = None
        """What others took of the machine since the training of this attempt began."""
        self._meter: Meter | None = None
        self._footprint: Footprint | None = None
        self._bitwise = resumed is None or resumed.goes_on_bitwise(surroundings.fingerprint)
        self._before_s = self.totals.elapsed_s
        self._validation = Validation(evaluator, self.totals, resumed.best if resumed else {})
        self._begun: list[_Begun] = []
        self._last: tuple[StepReport, _Begun] | None = None
        self._first = True
        self._saved_at = time.perf_counter()
        if resumed:
            self._model.load_arrays(resumed.arrays)
            self._model.load_state(resumed.state)
        self._lines = Lines(
            surroundings.attempt,
            surroundings.cadence,
            self._trial.training.iterations,
            self.totals.step,
        )

    def __enter__(self) -> TrainingLoop:
        return self

    def __exit__(self, *_: object) -> None:
        self._update_totals()
        self._enter(None)
        self._lines.close()

    @property
    def _trial(self) -> Trial:
        return self.evaluator.trial

    @property
    def _model(self) -> Model:
        return self.evaluator.model

    @property
    def _dataset(self) -> Dataset:
        return self.evaluator.dataset

    def timing(self) -> dict[str, Any]:
        """What the record's `timing` has of the training."""
        machine = None if self.machine is None else self.machine.summary()
        return {
            "compile_s": self.compile_s,
            "compiled_anew": self.compiled_anew,
            **self.totals.timing(),
            "machine": machine,
        }

    @property
    def stopped_early(self) -> bool:
        """True if patience has ended the training."""
        return is_over(self._trial.training.patience, self.totals.stale)

    def trained(self) -> Trained:
        """The training, once it has come to its end; the model has the arrays that are kept."""
        totals = self.totals
        best = self._trial.training.keep == "best" and bool(self._validation.best)
        if best:
            self._model.load_arrays(self._validation.best)
        return Trained(
            self.evaluator,
            self.surroundings.watch,
            totals.best_val_nll if best else totals.val_nll,
            totals.val_rows,
            totals.step,
            totals.stale if self.stopped_early else None,
        )

    def train(self) -> None:
        """Runs all steps and validations that are left, unless patience ends it.

        Raises:
            SolveFailed: A solve did not finish, or the loss is not finite.
            TimedOut: The time is over; the checkpoint holds everything.
            Interrupted: A stop was requested; the checkpoint holds everything.
        """
        settings, totals = self._trial.training, self.totals
        watch, cadence = self.surroundings.watch, self.surroundings.cadence
        watch.report(phase="compiling", step=totals.step, iterations=settings.iterations)
        self._compile()
        self._meter, self._footprint = Meter(), Footprint(self.totals.phase_bytes)
        self._footprint.enter("training")
        watch.report(phase="training")
        try:
            while True:
                if self._validation.is_due():
                    self._validate()
                if totals.step == settings.iterations or self.stopped_early:
                    break
                self._step()
                if self._lines.due(totals.step):
                    self._write_line()
                if time.perf_counter() - self._saved_at > cadence.checkpoint_s:
                    self._save()
                watch.check()
        except (Interrupted, TimedOut):
            self._save()
            raise
        self._enter(None)
        self._save()

    def _batch(self) -> tuple[Batch, float]:
        """The batch of the next step, and the mean log-volume of its rows."""
        return training_batch(self._trial, self._dataset, self.totals.step)

    def _control(self) -> Control:
        step = self.totals.step
        lr = learning_rate(self._trial.training, step, self.totals.lr_drops)
        return training_control(self._trial, step, lr)

    def _compile(self) -> None:
        """Compiles the step, and the evaluations by doing each once, so no other timing has it."""
        before = self._model.compiled_anew() or 0
        start = time.perf_counter()
        if self.totals.step < self._trial.training.iterations and not self.stopped_early:
            batch, _ = self._batch()
            self._model.compile(matched(self._trial, batch), self._control())
        self.evaluator.warm_up()
        self._model.synchronize()
        self.compile_s = time.perf_counter() - start
        after = self._model.compiled_anew()
        self.compiled_anew = None if after is None else after - before

    def _step(self) -> None:
        """One optimiser step; its data are made before the clock starts, but the paths of flow
        matching and their coupling after it.
        """
        batch, log_volume = self._batch()
        control = self._control()
        self._model.synchronize()
        start = time.perf_counter()
        pending = self._model.train_step(matched(self._trial, batch), control)
        self._model.synchronize()
        self.totals.time_step(time.perf_counter() - start, self._first)
        self._begun.append(_Begun(pending, control, log_volume))
        self._first = False
        self.totals.step += 1

    def _fetch(self) -> None:
        """Takes in the reports of all steps since the last call."""
        begun, self._begun = self._begun, []
        first = self.totals.step - len(begun)
        for offset, step in enumerate(begun):
            report = step.pending.fetch()
            self.totals.count(report)
            self._last = report, step
            if report.failure or not math.isfinite(report.loss):
                self.totals.step = first + offset + 1
                why = report.failure or "the loss is not finite"
                raise SolveFailed(f"training failed at step {self.totals.step}: {why}")

    def _write_line(self) -> None:
        self._fetch()
        if self._last is None:  # no step yet
            return
        totals, (report, begun) = self.totals, self._last
        loss, nll = report.loss, report.nll
        if nll is not None:
            loss, nll = loss - begun.log_volume, nll - begun.log_volume
        nfe = {kind: totals.window[kind].mean for kind in NFE_KINDS}
        control, warmup = begun.control, self._trial.training.schedule.kl_warmup
        self._append(
            {
                "loss": loss,
                self.evaluator.quantity: nll,
                **{f"reg/{name}": value for name, value in report.regularizers.items()},
                **{f"nfe_{kind}": value for kind, value in nfe.items()},
                "lr": control.lr,
                "kl_weight": control.kl_weight if warmup else None,
            }
        )
        totals.open_window()
        self.surroundings.watch.report(
            step=totals.step,
            loss=loss,
            nfe=(nfe["forward"] or 0.0) + (nfe["backward"] or 0.0),
            step_s=self._lines.pace(totals.step),
        )

    def _append(self, values: dict[str, Any]) -> None:
        self._lines.write(self.totals.step, {"train_s": self.totals.train_s, **values})
        self.totals.shared |= not self.surroundings.alone()

    def _validate(self) -> None:
        self._fetch()
        self._enter("validation")
        with self._lines.paused():
            self._append(self._validation.run())
        self._save()
        self._enter("training")

    def _enter(self, phase: str | None) -> None:
        """Begins a phase whose memory counts apart."""
        if self._footprint is not None:
            self._footprint.enter(phase)

    def _save(self) -> None:
        """Writes a checkpoint."""
        self._fetch()
        self._lines.sync()
        self._update_totals()
        Checkpoint(
            self._model.arrays(),
            self._model.state(),
            self._validation.best,
            self.totals,
            self.surroundings.fingerprint,
            self._bitwise,
        ).write(self.surroundings.attempt)
        self._saved_at = time.perf_counter()
        self.surroundings.watch.saved()

    def _update_totals(self) -> None:
        """Brings the totals that follow the clock and the process up to date."""
        self.totals.elapsed_s = self._before_s + self.surroundings.watch.alive_s()
        self.totals.peak_host_bytes = max(self.totals.peak_host_bytes, peak_host_bytes())
        self.totals.shared |= not self.surroundings.alone()
        if self._meter is not None:
            self.machine = self._meter.read()
            disturbed = self.machine.disturbance(self.surroundings.cores) is not None
            self.totals.shared |= disturbed and self.machine.wall_s > LEAST_S
