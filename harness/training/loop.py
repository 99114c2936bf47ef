"""The training loop: batches, steps, validation, the best arrays, logs and checkpoints.

Nothing here depends on the clock but when lines and checkpoints are written, and neither changes
a result.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.architecture.noise import draw, noise_slots
from harness.datasets.base import Dataset, Rows
from harness.errors import InputError, Problem
from harness.interface import Arrays, Batch, Control, Model, Pending, StepReport
from harness.measuring.evaluator import Evaluator, SolveFailed
from harness.measuring.measure import Trained
from harness.metrics.bits import bits_name, bits_per_dim
from harness.process.watch import Interrupted, TimedOut, Watch
from harness.records.files import dumps, now
from harness.training.checkpoint import Checkpoint
from harness.training.schedule import drops_made, is_over, kl_weight, learning_rate
from harness.training.totals import NFE_KINDS, Totals
from harness.trial import Trial

__all__ = ["Cadence", "Trainer"]


@dataclass(frozen=True)
class Cadence:
    """When lines and checkpoints are written; never part of a result.

    Arguments:
        checkpoint_s: Seconds between checkpoints; validations write one as well.
        log_s: Seconds after which a line is due, however few the steps.
        lines: About so many lines a trial, unless steps are slow.
    """

    checkpoint_s: float = 30.0
    log_s: float = 1.0
    lines: int = 1000

    @staticmethod
    def from_environment() -> Cadence:
        """Reads `HARNESS_CHECKPOINT_SECONDS`.

        Raises:
            InputError: It is not a number.
        """
        text = os.environ.get("HARNESS_CHECKPOINT_SECONDS", "30")
        try:
            return Cadence(checkpoint_s=float(text))
        except ValueError as error:
            message = f"'{text}' is not a number of seconds"
            raise InputError([Problem("HARNESS_CHECKPOINT_SECONDS", message)]) from error

    def log_steps(self, iterations: int) -> int:
        """Steps between lines: ten, more in long trainings."""
        return max(10, math.ceil(iterations / self.lines))


class Trainer:
    """Trains the model of a trial from where its totals stand to the last step.

    Arguments:
        trial: The trial.
        evaluator: Its model and data.
        attempt: Folder of the attempt.
        watch: Time limit, requests to stop, sign of life.
        cadence: When lines and checkpoints are written.
        resumed: Checkpoint to go on from.
        fingerprint: Numerics fingerprint of this attempt.
        alone: Tells whether no other trial runs on this machine.
    """

    def __init__(
        self,
        trial: Trial,
        evaluator: Evaluator,
        attempt: Path,
        watch: Watch,
        cadence: Cadence,
        resumed: Checkpoint | None,
        fingerprint: str,
        alone: Callable[[], bool],
    ) -> None:
        self.trial, self.evaluator, self.watch = trial, evaluator, watch
        self.totals = resumed.totals if resumed else Totals()
        self.best: Arrays = resumed.best if resumed else {}
        self.compile_s = 0.0
        self.bitwise = resumed is None or (resumed.bitwise and resumed.fingerprint == fingerprint)
        self._attempt, self._cadence, self._fingerprint = attempt, cadence, fingerprint
        self._alone = alone
        self._before_s = self.totals.elapsed_s
        self._pending: list[Pending] = []
        self._last: StepReport | None = None
        self._log_volume = self._lr = 0.0
        self._first = True
        self._line_at = self._saved_at = time.perf_counter()
        self._line_step = self.totals.step
        self._lines = open(attempt / "metrics.jsonl", "ab", buffering=0)  # noqa: SIM115
        if resumed:
            self._model.load_arrays(resumed.arrays)
            self._model.load_state(resumed.state)

    @property
    def _model(self) -> Model:
        return self.evaluator.model

    @property
    def _dataset(self) -> Dataset:
        return self.evaluator.dataset

    @property
    def stopped_early(self) -> bool:
        """True if patience has ended the training."""
        return is_over(self.trial.training.patience, self.totals.stale)

    def trained(self) -> Trained:
        """The training, once it has come to its end."""
        totals = self.totals
        best = self.trial.training.keep == "best" and bool(self.best)
        return Trained(
            self.evaluator,
            self.watch,
            self.best if best else {},
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
            Interrupted: A stop was requested; likewise.
        """
        settings, totals = self.trial.training, self.totals
        val = self.evaluator.chunks("val", settings.validation_rows)
        every = self._cadence.log_steps(settings.iterations)
        self.watch.report(stage="compiling", step=totals.step, iterations=settings.iterations)
        self._compile()
        self.watch.report(stage="training")
        try:
            while True:
                if val and self._validation_is_due():
                    self._validate(val)
                if totals.step == settings.iterations or self.stopped_early:
                    break
                self._step()
                slow = time.perf_counter() - self._line_at > self._cadence.log_s
                if totals.step % every == 0 or totals.step == settings.iterations or slow:
                    self._write_line()
                if time.perf_counter() - self._saved_at > self._cadence.checkpoint_s:
                    self.save()
                self.watch.check()
        except (Interrupted, TimedOut):
            self.save()
            raise
        self.save()

    def _batch(self) -> Batch:
        step, size = self.totals.step, self.trial.training.batch
        rows = self._dataset.training_batch(self.trial.seed, step, size)
        slots = noise_slots(self.trial, self._dataset.info.event_shape, "train", size)
        noise = draw(slots, self.trial.seed, step, self.trial.dtype)
        # The model knows nothing of the preprocessing; lines and progress show nats of the data.
        self._log_volume = float(np.mean(rows.log_volume))
        return Batch(rows.x.astype(self.trial.dtype), noise)

    def _control(self) -> Control:
        training, step = self.trial.training, self.totals.step
        return Control(
            self.trial.solver,
            training.trace,
            self.trial.gradient,
            step,
            learning_rate(training, step, self.totals.lr_drops),
            kl_weight(training, step),
        )

    def _compile(self) -> None:
        """Compiles the step, and the evaluations by doing each once, so no other timing has it."""
        start = time.perf_counter()
        if self.totals.step < self.trial.training.iterations and not self.stopped_early:
            self._model.compile(self._batch(), self._control())
        self.evaluator.warm_up()
        self._model.synchronize()
        self.compile_s = time.perf_counter() - start

    def _step(self) -> None:
        """One optimiser step; its data are made before the clock starts."""
        batch, control = self._batch(), self._control()
        self._lr = control.lr
        self._model.synchronize()
        start = time.perf_counter()
        self._pending.append(self._model.train_step(batch, control))
        self._model.synchronize()
        self.totals.time_step(time.perf_counter() - start, self._first)
        self._first = False
        self.totals.step += 1

    def _fetch(self) -> None:
        """Takes in the reports of all steps since the last call."""
        pending, self._pending = self._pending, []
        first = self.totals.step - len(pending)
        for offset, each in enumerate(pending):
            report = each.fetch()
            self.totals.count(report)
            self._last = report
            if report.failure or not math.isfinite(report.loss):
                self.totals.step = first + offset + 1
                why = report.failure or "the loss is not finite"
                raise SolveFailed(f"training failed at step {self.totals.step}: {why}")

    def _write_line(self) -> None:
        self._fetch()
        training, totals, report = self.trial.training, self.totals, self._last
        elapsed = time.perf_counter() - self._line_at
        steps = totals.step - self._line_step
        if report is None or not steps:
            return
        nfe = {f"nfe_{kind}": totals.window[kind].mean for kind in NFE_KINDS}
        line: dict[str, Any] = {
            "loss": report.loss - self._log_volume,
            self.evaluator.quantity: report.nll - self._log_volume,
            **{f"reg/{name}": value for name, value in report.regularizers.items()},
            **nfe,
            "lr": self._lr,
        }
        if training.schedule.kl_warmup:
            line["kl_weight"] = kl_weight(training, totals.step - 1)
        self._append({name: value for name, value in line.items() if value is not None})
        totals.open_window()
        self._line_at, self._line_step = time.perf_counter(), totals.step
        self.watch.report(
            step=totals.step,
            loss=line["loss"],
            nfe=(nfe["nfe_forward"] or 0.0) + (nfe["nfe_backward"] or 0.0),
            step_s=elapsed / steps,
        )

    def _append(self, values: Mapping[str, Any]) -> None:
        head = {"step": self.totals.step, "timestamp_ms": now(), "train_s": self.totals.train_s}
        self._lines.write(dumps({**head, **values}))
        self.totals.shared |= not self._alone()

    def _validation_is_due(self) -> bool:
        step, every = self.totals.step, self.trial.training.validate_every
        at = step == self.trial.training.iterations or (
            every > 0 and step > 0 and step % every == 0
        )
        return at and self.totals.val_step != step

    def _validate(self, chunks: list[Rows]) -> None:
        self._fetch()
        totals = self.totals
        self._model.synchronize()
        start = time.perf_counter()
        try:
            score = self.evaluator.score("val", chunks)
        except SolveFailed as error:
            raise SolveFailed(f"validation failed at step {totals.step}: {error}") from error
        self._model.synchronize()
        totals.val_s += time.perf_counter() - start
        totals.val_nll, totals.val_step, totals.val_rows = score.nll, totals.step, score.n
        self._judge(score.nll)
        name = f"val_{self.evaluator.quantity}"
        line = {name: score.nll}
        if self._dataset.bits_per_dim:
            bits = bits_per_dim(score.nll, self._dataset.info.event_shape)
            line[bits_name(name)] = bits
        self._append(line)
        # The pace of training does not include validation.
        self._line_at += time.perf_counter() - start
        self.save()

    def _judge(self, val_nll: float) -> None:
        """Keeps the best arrays; what a validation without gain leads to, patience says."""
        training, totals = self.trial.training, self.totals
        if totals.best_val_nll is None or val_nll < totals.best_val_nll:
            totals.best_val_nll, totals.best_step, totals.stale = val_nll, totals.step, 0
            if training.keep == "best":
                self.best = self._model.arrays()
        elif totals.step >= training.patience.after:
            totals.stale += 1
            totals.lr_drops = drops_made(training.patience, totals.stale, totals.lr_drops)

    def save(self) -> None:
        """Writes a checkpoint."""
        self._fetch()
        os.fsync(self._lines.fileno())
        self.measure()
        Checkpoint(
            self._model.arrays(),
            self._model.state(),
            self.best,
            self.totals,
            self._fingerprint,
            self.bitwise,
        ).write(self._attempt)
        self._saved_at = time.perf_counter()
        self.watch.saved()

    def measure(self) -> None:
        """Brings the totals that follow the clock and the process up to date."""
        self.totals.elapsed_s = self._before_s + self.watch.alive_s()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        unit = 1 if sys.platform == "darwin" else 1024
        self.totals.peak_host_bytes = max(self.totals.peak_host_bytes, peak * unit)
        self.totals.shared |= not self._alone()

    def close(self) -> None:
        """Closes the metrics file."""
        self._lines.close()
