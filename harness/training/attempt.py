"""One attempt at a trial: from the framework's import to what result.json says."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from harness.backends import get_backend
from harness.datasets import registry as datasets
from harness.errors import HarnessError
from harness.interface import Backend
from harness.measuring.evaluator import Evaluator, SolveFailed
from harness.measuring.measure import measure
from harness.measuring.phases import require_measurable
from harness.process.cores import Lease
from harness.process.environment import describe, with_choices
from harness.process.memory import memory_at_hand
from harness.process.watch import Interrupted, TimedOut, Watch, lost_seconds
from harness.records.files import dumps, read_lines, replace, scrub
from harness.records.folder import TrialFolder, result_head
from harness.records.status import Status
from harness.specs.resources import Resources
from harness.training.checkpoint import Checkpoint, newest
from harness.training.choices import settle
from harness.training.loop import Cadence, Trainer
from harness.trial import Trial

__all__ = ["Attempt"]


class Attempt:
    """One attempt at a trial; gathers what its record needs, however far it comes.

    Arguments:
        trial: The trial.
        folder: Where its record lies.
        attempt: Folder of this attempt.
        resources: What the trial was given.
        watch: Time limit, requests to stop, sign of life.
        held: The cores it is pinned to.
        captured: What the process prints goes to the attempt's log already.
    """

    def __init__(
        self,
        trial: Trial,
        folder: TrialFolder,
        attempt: Path,
        resources: Resources,
        watch: Watch,
        held: Lease,
        captured: bool,
    ) -> None:
        self.trial, self.folder, self.attempt = trial, folder, attempt
        self.resources, self.watch, self.lease = resources, watch, held
        self.captured = captured
        self.timing: dict[str, Any] = {"import_s": None, "data_s": None, "build_s": None}
        self.environment: dict[str, Any] = {}
        self.lost_s = 0.0
        self.trainer: Trainer | None = None
        self.metrics: dict[str, Any] = {}
        self.nfe: dict[str, Any] = {"test": None, "sample": None}
        self.device_bytes: int | None = None

    def execute(
        self, backend: Backend | None, earlier: list[Path], cadence: Cadence | None
    ) -> tuple[Status | None, str | None]:
        """Trains and evaluates; returns how it ended, and why. None means it was interrupted."""
        try:
            return Status.OK, self._train(backend, earlier, cadence)
        except SolveFailed as error:
            return Status.DIVERGED, str(error)
        except TimedOut as error:
            return Status.TIMEOUT, str(error)
        except (Interrupted, KeyboardInterrupt):
            return None, None
        except HarnessError as error:
            self._log(str(error))
            return Status.ERROR, self._message(str(error))
        except Exception as error:
            self._log(traceback.format_exc())
            status = Status.OUT_OF_MEMORY if _is_out_of_memory(error) else Status.ERROR
            # Without the notes that frameworks add; the log has them.
            return status, self._message(f"{type(error).__name__}: {error}".splitlines()[0])
        finally:
            if self.trainer is not None:
                self.trainer.measure()
                self.trainer.close()

    def _train(
        self, backend: Backend | None, earlier: list[Path], cadence: Cadence | None
    ) -> str | None:
        trial, timing, cores = self.trial, self.timing, len(self.lease.cores)
        backend = backend or get_backend(trial.backend)
        self.watch.report(stage="importing", iterations=trial.training.iterations)
        with _timed(timing, "import_s"):
            prepared = backend.prepare(trial, cores)
        device: Literal["cpu", "gpu"] = "gpu" if self.resources.gpus else "cpu"
        self.environment = describe(trial, backend, prepared, cores, device)
        self.lost_s = sum((lost_seconds(path) for path in earlier), 0.0)
        self.watch.report(stage="loading data")
        with _timed(timing, "data_s"):
            dataset = datasets.load(trial.dataset.name, trial.dataset.digest)
        info = dataset.info
        require_measurable(trial, dataset, memory_at_hand("cpu", 0, cores))
        chosen = settle(self.folder, trial, backend, info, device, self.resources, cores)
        trial = chosen.trial
        self.environment = with_choices(self.environment, trial.gradient, chosen.backend)
        resumed = self._resumed(earlier)
        replace(self.attempt / "environment.json", dumps(self.environment, indent=1))
        with _timed(timing, "build_s"):
            model = backend.open(trial, info, device, chosen.backend)
        try:
            evaluator = Evaluator(trial, model, dataset, self.watch.check)
            self.trainer = trainer = Trainer(
                trial,
                evaluator,
                self.attempt,
                self.watch,
                cadence or Cadence.from_environment(),
                resumed,
                self.environment["numerics_fingerprint"],
                self.lease.alone,
            )
            trainer.train()
            found = measure(trainer.trained(), self.attempt, earlier)
            self.metrics, self.nfe = found.metrics, found.nfe
            timing |= found.timing()
            return found.message
        finally:
            self.device_bytes = model.peak_device_bytes()
            model.close()

    def _resumed(self, earlier: list[Path]) -> Checkpoint | None:
        """The checkpoint to go on from; says in the environment whether that is exact."""
        found = newest(earlier)
        if found is None:
            return None
        source, checkpoint = found
        same = checkpoint.fingerprint == self.environment["numerics_fingerprint"]
        bitwise = checkpoint.bitwise and same
        self.environment["resumed"] = "bitwise" if bitwise else "not bitwise"
        self._carry_over(source, checkpoint.totals.step)
        return checkpoint

    def _carry_over(self, source: Path, step: int) -> None:
        """Copies the lines of an earlier attempt up to the checkpoint: one file has all."""
        lines = [x for x in read_lines(source / "metrics.jsonl") if x.get("step", 0) <= step]
        (self.attempt / "metrics.jsonl").write_bytes(b"".join(dumps(line) for line in lines))

    def result(self, status: Status, message: str | None) -> dict[str, Any]:
        """What result.json says."""
        attempt_id = self.attempt.name.removeprefix("attempt-")
        record = result_head(self.folder, attempt_id, status, message)
        timing = {**self.timing, "lost_s": self.lost_s}
        nfe = dict(self.nfe)
        memory = {"peak_host_bytes": None, "peak_device_bytes": self.device_bytes}
        if self.trainer is not None:
            totals = self.trainer.totals
            timing |= {
                "compile_s": self.trainer.compile_s,
                "first_step_s": totals.first_step_s,
                "step_s": totals.step_quartiles(),
                "train_s": totals.train_s,
                "val_s": totals.val_s,
            }
            memory["peak_host_bytes"] = totals.peak_host_bytes
            nfe["train"] = {kind: tally.summary() for kind, tally in totals.nfe.items()}
            nfe["train_rejected"] = totals.rejected
        # A part of a GPU is shared by definition.
        shared = self.trainer is None or self.trainer.totals.shared or self.resources.gpus % 1 > 0
        timing["mode"] = "shared" if shared else "exclusive"
        return {
            **record,
            "metrics": self.metrics,
            "timing": timing,
            "nfe": nfe,
            "memory": memory,
            "environment": self.environment,
        }

    def _message(self, text: str) -> str:
        root = str(self.folder.root.resolve())
        log = (self.attempt / "log.txt").relative_to(self.folder.root)
        return f"{scrub(text.replace(root, '<root>'))} (log: {log})"

    def _log(self, text: str) -> None:
        """Writes a text to the log, and to the terminal if that is not the log already."""
        text = scrub(text)
        with open(self.attempt / "log.txt", "a", encoding="utf-8") as file:
            file.write(text + "\n")
        if not self.captured:
            print(text, file=sys.stderr, flush=True)


@contextmanager
def _timed(timing: dict[str, Any], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timing[name] = time.perf_counter() - start


def _is_out_of_memory(error: Exception) -> bool:
    """Frameworks have types of their own for it, which this module cannot import."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "RESOURCE_EXHAUSTED" in text
        or "out of memory" in text.lower()
        or "can't allocate memory" in text
    )
