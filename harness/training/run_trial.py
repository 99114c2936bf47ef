"""One trial from start to committed record.

    python -m harness.training spec.json

needs numpy, safetensors and the trial's framework, nothing else. This module imports only the
standard library until the process is pinned to its cores, because numpy and the frameworks read
thread settings when they are imported.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.process.cores import lease, pin
from harness.process.output import captured
from harness.process.watch import Progress, Watch
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.specs.resources import Resources
from harness.trial import Trial

if TYPE_CHECKING:
    from harness.interface import Backend
    from harness.training.loop import Cadence

__all__ = ["OUT_OF_MEMORY_EXIT", "new_attempt_id", "run_trial"]

OUT_OF_MEMORY_EXIT = 75
"""Exit code of a process whose trial ran out of memory and may be tried again."""


def new_attempt_id() -> str:
    """An id that no other attempt has, on any machine."""
    return uuid.uuid4().hex[:12]


def run_trial(
    trial: Trial,
    root: Path,
    resources: Resources,
    *,
    progress: Callable[[Progress], None] | None = None,
    backend: Backend | None = None,
    attempt_id: str | None = None,
    cadence: Cadence | None = None,
    capture: bool = False,
    exclusive: bool = False,
    may_retry: bool = False,
    parent: int | None = None,
) -> Status:
    """Runs a trial in this process, which is pinned to the trial's cores for good.

    A trial with a committed result is left alone. One with a checkpoint goes on from it.

    Arguments:
        trial: The trial.
        root: The run root.
        resources: Cores, GPUs and time limit.
        progress: Told how far the trial is.
        backend: Who computes it; None means the registered backend of the trial's name.
        attempt_id: Names the attempt's folder; None makes one up.
        cadence: When lines and checkpoints are written.
        capture: Send what the process prints to the attempt's log.txt.
        exclusive: Run while no other trial runs on this machine.
        may_retry: Commit nothing if memory runs out, since the trial will be tried again.
        parent: Process id of whoever waits for the trial; it stops when that process is dead.

    Returns:
        The status that is committed; `OUT_OF_MEMORY` is not if `may_retry`.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM arrived; the state is in the checkpoint.
    """
    folder = TrialFolder(root, trial.id)
    committed = folder.read_result()
    if committed is not None:
        return Status(committed["status"])
    earlier = folder.attempts()
    attempt = folder.attempt(attempt_id or new_attempt_id())
    attempt.mkdir(parents=True)
    if not folder.spec.exists():
        folder.write_spec(trial, resources)
    with (
        captured(attempt / "log.txt" if capture else None),
        lease(resources.cpus, exclusive=exclusive) as held,
    ):
        pin(held.cores, "gpu" if resources.gpus else "cpu")
        # Only now: this imports numpy.
        from harness.training.attempt import Attempt

        watch = Watch(attempt, resources.timeout_minutes * 60, progress, parent)
        run = Attempt(trial, folder, attempt, resources, watch, held, capture)
        with watch.signals():
            status, message = run.execute(backend, earlier, cadence)
        if status is None:
            raise KeyboardInterrupt
        if status is Status.OUT_OF_MEMORY and may_retry:
            return status
        folder.commit_result(run.result(status, message))
    found = folder.read_result()
    return Status(found["status"]) if found else status
