"""One attempt at a trial, from the import of the framework to everything its record says."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.backends import get_backend
from harness.datasets import registry as datasets
from harness.datasets.base import Dataset
from harness.errors import HarnessError, StorageError
from harness.interface import Backend, Model
from harness.measuring.accuracy import Reference
from harness.measuring.evaluator import Evaluator, SolveFailed
from harness.measuring.measure import Trained, measure
from harness.measuring.measurements import Measurements
from harness.measuring.reference import reference_of
from harness.measuring.requirements import require_measurable, require_representable
from harness.process.cores import Lease
from harness.process.environment import describe, with_choices
from harness.process.memory import is_out_of_memory, memory_at_hand, peak_host_bytes
from harness.process.watch import Interrupted, TimedOut, Watch, lost_seconds
from harness.records.arrays import seal, unpack
from harness.records.files import dumps, replace, scrub, storing
from harness.records.folder import TrialFolder
from harness.records.readers import read_lines
from harness.records.result import Result
from harness.records.status import Status
from harness.records.trained import TrainedFolder, TrainedRecord
from harness.specs.resources import Resources
from harness.training.checkpoint import Checkpoint, newest
from harness.training.choices import settle
from harness.training.lines import Cadence
from harness.training.loop import Surroundings, TrainingLoop
from harness.training.run_trial import RunOptions
from harness.trial import Trial

__all__ = ["Attempt", "carry_out", "preload"]


@dataclass(frozen=True)
class Attempt:
    """What one attempt at a trial is given.

    Arguments:
        trial: The trial.
        folder: Where its record lies.
        path: Folder of this attempt.
        earlier: Folders of the attempts before it.
        resources: Cores, GPUs and time limit.
        watch: Time limit, requests to stop, progress.
        lease: The cores that the process is pinned to.
        options: How the trial is run.
    """

    trial: Trial
    folder: TrialFolder
    path: Path
    earlier: tuple[Path, ...]
    resources: Resources
    watch: Watch
    lease: Lease
    options: RunOptions

    @property
    def device(self) -> Literal["cpu", "gpu"]:
        """Where the model is."""
        return "gpu" if self.resources.gpus else "cpu"

    @property
    def cores(self) -> int:
        """How many cores it has."""
        return len(self.lease.cores)

    def shares(self) -> bool:
        """True if another trial runs on this machine now; a part of a GPU is always shared."""
        return self.resources.gpus % 1 > 0 or not self.lease.alone()


def preload(backend: str, cores: int) -> None:
    """Imports what any trial of a backend imports, before one is known."""
    get_backend(backend).preload(cores)


def carry_out(attempt: Attempt) -> Result:
    """Trains and measures; however the attempt ends, the result has what there was until then.

    Raises:
        Interrupted: A stop was requested; the checkpoint has everything.
    """
    findings = _Findings()
    status, message = _end(attempt, findings)
    return findings.result(attempt, status, message)


@dataclass
class _Findings:
    """What an attempt has found out so far; an exception leaves it as it is."""

    environment: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float | None] = field(
        default_factory=lambda: dict.fromkeys(("import_s", "data_s", "build_s"))
    )
    trained: TrainedRecord | None = None
    shared: bool = False
    loop: TrainingLoop | None = None
    measured: Measurements = field(default_factory=lambda: Measurements(digest=""))
    device_bytes: int | None = None

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Notes how long a block takes."""
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start

    def result(self, attempt: Attempt, status: Status, message: str | None) -> Result:
        timing = {
            **self.seconds,
            **self.measured.timing(),
            "lost_s": sum((lost_seconds(path) for path in attempt.earlier), 0.0),
        }
        nfe = dict(self.measured.nfe)
        host_bytes, shared, environment = None, True, self.environment
        phases: dict[str, int] = {}
        if self.trained is not None:
            timing |= self.trained.timing
            nfe |= self.trained.nfe
            host_bytes = max(self.trained.peak_host_bytes or 0, peak_host_bytes())
            phases |= self.trained.phase_bytes or {}
            shared = self.trained.shared or self.shared or attempt.shares()
            environment = self._of_both(attempt, self.trained)
        elif self.loop is not None:
            totals = self.loop.totals
            timing |= self.loop.timing()
            nfe |= totals.evaluations()
            host_bytes = totals.peak_host_bytes
            phases |= totals.phase_bytes
            shared = totals.shared or attempt.resources.gpus % 1 > 0
        return Result(
            status,
            message,
            metrics=self.measured.metrics,
            timing={**timing, "mode": "shared" if shared else "exclusive"},
            nfe=nfe,
            memory={
                "peak_host_bytes": host_bytes,
                "peak_device_bytes": self.device_bytes,
                "above": {**phases, **self.measured.phase_bytes},
            },
            environment=environment,
        )

    def _of_both(self, attempt: Attempt, trained: TrainedRecord) -> dict[str, Any]:
        """Where the model was trained, since that is what its timings are of; and in what the
        place differs where another trial's model was scored.
        """
        if trained.trial_id == attempt.folder.trial_id:
            return self.environment
        scored = {k: v for k, v in self.environment.items() if trained.environment.get(k) != v}
        by = {"trial_id": trained.trial_id, "attempt_id": trained.attempt_id}
        return {**trained.environment, "trained_by": by, "scored_on": scored}


def _end(attempt: Attempt, findings: _Findings) -> tuple[Status, str | None]:
    """Does the work; returns how it ended, and why."""
    try:
        return Status.OK, _work(attempt, findings)
    except (Interrupted, StorageError):
        # What is wrong with the run root cannot be recorded in it.
        raise
    except SolveFailed as error:
        return Status.DIVERGED, str(error)
    except TimedOut as error:
        return Status.TIMEOUT, str(error)
    except HarnessError as error:
        _log(attempt, str(error))
        return Status.ERROR, _message(attempt, str(error))
    except SystemExit as error:
        # Not to the executor, which would take it for a death of the process.
        _log(attempt, traceback.format_exc())
        return Status.ERROR, _message(attempt, f"something called sys.exit({error.code!r})")
    except Exception as error:
        _log(attempt, traceback.format_exc())
        status = Status.OUT_OF_MEMORY if is_out_of_memory(error) else Status.ERROR
        # Without the notes that frameworks add; the log has them.
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        return status, _message(attempt, first)


def _work(attempt: Attempt, findings: _Findings) -> str | None:
    """Opens the model of the trial and uses it; returns what is worth saying in the record.

    The order is that of what may fail: nothing is decided for later attempts before the data are
    known to be the right ones, and the model is built last.
    """
    trial, watch, cores, device = attempt.trial, attempt.watch, attempt.cores, attempt.device
    backend = attempt.options.backend or get_backend(trial.backend)
    watch.report(phase="importing", iterations=trial.training.iterations)
    watch.check()
    with findings.timed("import_s"):
        prepared = backend.prepare(trial, cores)
    findings.environment = describe(trial.precision, backend.framework, prepared, cores, device)
    watch.report(phase="loading data")
    watch.check()
    with findings.timed("data_s"):
        dataset = datasets.load(trial.dataset.name, trial.dataset.digest)
    require_representable(trial, dataset)
    require_measurable(trial, dataset, memory_at_hand("cpu", 0, cores))
    trial, model, resumed = _opened(attempt, findings, backend, dataset)
    try:
        evaluator = Evaluator(trial, model, dataset, watch.check)
        return _use(attempt, findings, evaluator, _Doubles(attempt, backend, evaluator), resumed)
    finally:
        findings.device_bytes = model.peak_device_bytes()
        model.close()


def _opened(
    attempt: Attempt, findings: _Findings, backend: Backend, dataset: Dataset
) -> tuple[Trial, Model, Checkpoint | None]:
    """The trial with everything decided, its model, and the checkpoint to go on from."""
    chosen = settle(
        attempt.folder,
        attempt.trial,
        backend,
        dataset.info,
        attempt.device,
        attempt.resources,
        attempt.cores,
    )
    environment = with_choices(findings.environment, chosen.trial.gradient, chosen.backend)
    resumed = _taken_up(attempt)
    if resumed is not None:
        bitwise = resumed.goes_on_bitwise(environment["numerics_fingerprint"])
        environment["resumed"] = "bitwise" if bitwise else "not bitwise"
    findings.environment = environment
    replace(attempt.path / "environment.json", dumps(environment, indent=1))
    with findings.timed("build_s"):
        model = backend.open(chosen.trial, dataset.info, attempt.device, chosen.backend)
    return chosen.trial, model, resumed


def _taken_up(attempt: Attempt) -> Checkpoint | None:
    """The checkpoint to go on from; the lines up to it are copied, so that one file has all."""
    furthest = newest(attempt.earlier)
    if furthest is None:
        return None
    source, checkpoint = furthest
    step = checkpoint.totals.step
    lines = [x for x in read_lines(source / "metrics.jsonl") if x.get("step", 0) <= step]
    with storing(attempt.path):
        (attempt.path / "metrics.jsonl").write_bytes(b"".join(dumps(line) for line in lines))
    return checkpoint


@dataclass(frozen=True)
class _Doubles:
    """Opens the model of an attempt in float64, for a reference."""

    attempt: Attempt
    backend: Backend
    evaluator: Evaluator

    @contextmanager
    def opened(self) -> Iterator[Model]:
        """The model while the context lasts; precision is a setting of the process."""
        trial, cores = self.evaluator.trial, self.attempt.cores
        spec = reference_of(trial)
        self.backend.prepare(spec, cores)
        try:
            model = self.backend.open(spec, self.evaluator.dataset.info, self.attempt.device)
            try:
                yield model
            finally:
                model.close()
        finally:
            self.backend.prepare(trial, cores)

    def reference(self, folder: TrainedFolder) -> Reference:
        """That of the trained model in a folder."""
        record = folder.read()
        assert record is not None  # noqa: S101  (it was committed before)
        return Reference(folder.model(record.attempt_id).parent, self.opened)


def _use(
    attempt: Attempt,
    findings: _Findings,
    evaluator: Evaluator,
    doubles: _Doubles,
    resumed: Checkpoint | None,
) -> str | None:
    folder = TrainedFolder(attempt.folder.root, attempt.trial.training_id)
    findings.trained = folder.read()
    if findings.trained is not None:
        findings.shared = attempt.shares()
        trained = _taken_over(attempt, folder, findings.trained, evaluator)
        findings.measured = measure(
            trained, attempt.path, attempt.earlier, doubles.reference(folder)
        )
        return findings.measured.message
    surroundings = Surroundings(
        attempt.path,
        attempt.watch,
        attempt.options.cadence or Cadence.from_environment(),
        attempt.lease.alone,
        attempt.cores,
        findings.environment,
    )
    with TrainingLoop(evaluator, surroundings, resumed) as loop:
        findings.loop = loop
        loop.train()
        trained = loop.trained()
        # From here on nobody has to train it again, whatever becomes of the measurements.
        _commit(attempt, folder, loop, trained)
        findings.measured = measure(
            trained, attempt.path, attempt.earlier, doubles.reference(folder)
        )
    return findings.measured.message


def _commit(attempt: Attempt, folder: TrainedFolder, loop: TrainingLoop, trained: Trained) -> None:
    """Commits the model that a training has left."""
    totals, surroundings = loop.totals, loop.surroundings
    record = TrainedRecord(
        trial_id=attempt.folder.trial_id,
        attempt_id=attempt.path.name.removeprefix("attempt-"),
        environment=surroundings.environment,
        timing=loop.timing(),
        nfe=totals.evaluations(),
        peak_host_bytes=totals.peak_host_bytes,
        phase_bytes=dict(totals.phase_bytes),
        shared=totals.shared or attempt.resources.gpus % 1 > 0,
        steps=trained.steps,
        stale=trained.stale,
        val_nll=trained.val_nll,
        val_rows=trained.val_rows,
    )
    model = seal(trained.evaluator.model.arrays(), {})
    folder.commit(record, model, attempt.path / "metrics.jsonl")


def _taken_over(
    attempt: Attempt, folder: TrainedFolder, record: TrainedRecord, evaluator: Evaluator
) -> Trained:
    """A model that was trained before, by this trial or by one that differs in its evaluation."""
    watch = attempt.watch
    watch.report(phase="compiling", step=record.steps)
    with storing(attempt.path):
        lines = folder.lines(record.attempt_id).read_bytes()
        (attempt.path / "metrics.jsonl").write_bytes(lines)
    evaluator.model.load_arrays(unpack(folder.model(record.attempt_id)))
    evaluator.warm_up(("test",))
    return Trained(evaluator, watch, record.val_nll, record.val_rows, record.steps, record.stale)


def _message(attempt: Attempt, text: str) -> str:
    root = attempt.folder.root
    log = (attempt.path / "log.txt").relative_to(root)
    return f"{scrub(text.replace(str(root.resolve()), '<root>'))} (log: {log})"


def _log(attempt: Attempt, text: str) -> None:
    """Writes a text to the log, and to the terminal if that is not the log already."""
    text = scrub(text)
    # The message of the record has the essence.
    with suppress(OSError), open(attempt.path / "log.txt", "a", encoding="utf-8") as file:
        file.write(text + "\n")
    if not attempt.options.capture:
        print(text, file=sys.stderr, flush=True)
