"""One trial from start to committed record.

    python -m harness.training spec.json

needs numpy, safetensors and the trial's framework, nothing else. This module imports only the
standard library until the process is pinned to its cores, because numpy and the frameworks read
thread settings when they are imported.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.process.claim import claimed
from harness.process.cores import lease, pin
from harness.process.machine import counting_stops
from harness.process.output import captured
from harness.process.watch import Interrupted, Progress, Watch
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.specs.resources import Resources
from harness.trial import Trial

if TYPE_CHECKING:
    from harness.interface import Backend
    from harness.records.result import Result
    from harness.training.lines import Cadence

__all__ = ["INTERRUPTED_EXIT", "OUT_OF_MEMORY_EXIT", "RunOptions", "new_attempt_id", "run_trial"]

INTERRUPTED_EXIT = 130
"""Exit code of a process whose trial was asked to stop."""
OUT_OF_MEMORY_EXIT = 75
"""Exit code of a process whose trial ran out of memory and may be tried again."""


@dataclass(frozen=True)
class RunOptions:
    """How a trial is run; nothing here is part of its identity.

    Arguments:
        progress: Called with how far the trial is.
        backend: Who computes it; None means the registered backend of the trial's name.
        attempt_id: Names the attempt's folder; None makes one up.
        cadence: When lines and checkpoints are written; None asks the environment.
        capture: Send what the process prints to the attempt's log.txt.
        exclusive: Run while no other trial runs on this machine.
        may_retry: Commit nothing if memory runs out, since the trial will be tried again.
        parent: Process id of whoever waits for the trial; it stops when that process is dead.
    """

    progress: Callable[[Progress], None] | None = None
    backend: Backend | None = None
    attempt_id: str | None = None
    cadence: Cadence | None = None
    capture: bool = False
    exclusive: bool = False
    may_retry: bool = False
    parent: int | None = None


def new_attempt_id() -> str:
    """An id that no other attempt has, on any machine."""
    return uuid.uuid4().hex[:12]


def run_trial(
    trial: Trial, root: Path, resources: Resources, options: RunOptions | None = None
) -> Status:
    """Runs a trial in this process, which is pinned to the trial's cores for good.

    A trial with a committed result is left alone. One with a checkpoint goes on from it. While
    another run works at it, this one waits for its result.

    Arguments:
        trial: The trial.
        root: The run root.
        resources: Cores, GPUs and time limit.
        options: How it is run.

    Returns:
        The status that is committed; `OUT_OF_MEMORY` is not if it may be tried again.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM arrived; the state is in the checkpoint.
    """
    options = options or RunOptions()
    folder = TrialFolder(root, trial.id)
    attempt_id = options.attempt_id or new_attempt_id()
    limit_s = resources.timeout_minutes * 60
    watch = Watch(folder.attempt(attempt_id), limit_s, options.progress, options.parent)
    try:
        # First: a request to stop may come while the trial waits for another run, for cores, or
        # imports.
        with watch.signals(), counting_stops(), claimed(folder.path, watch.check_asked):
            committed = folder.read_result()
            if committed is not None:
                return Status(committed["status"])
            earlier = tuple(folder.attempts())
            path = folder.begin(attempt_id)
            if not folder.spec.exists():
                folder.write_spec(trial, resources)
            with captured(path / "log.txt" if options.capture else None):
                result = _result(trial, folder, path, earlier, resources, watch, options)
            if result.status is Status.OUT_OF_MEMORY and options.may_retry:
                return result.status
            result.commit(folder, attempt_id)
    except Interrupted:
        raise KeyboardInterrupt from None
    # Another attempt at the same trial may have been first.
    stored = folder.read_result()
    return Status(stored["status"]) if stored else result.status


def _result(
    trial: Trial,
    folder: TrialFolder,
    path: Path,
    earlier: tuple[Path, ...],
    resources: Resources,
    watch: Watch,
    options: RunOptions,
) -> Result:
    """Carries out an attempt once it has its cores."""
    cores = lease(resources.cpus, exclusive=options.exclusive, check=watch.check_asked)
    with cores as held:
        watch.begin()
        pin(held.cores, "gpu" if resources.gpus else "cpu")
        # Only now: this imports numpy.
        from harness.training.attempt import Attempt, carry_out

        return carry_out(Attempt(trial, folder, path, earlier, resources, watch, held, options))
