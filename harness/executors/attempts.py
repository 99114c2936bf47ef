"""One attempt at a trial in a process of its own, waited for; the same under every executor."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.executors.ending import Cause, Ended
from harness.executors.observer import Stop
from harness.executors.processes import Order, Process, Processes
from harness.planning.plan import PlannedTrial
from harness.records.folder import TrialFolder
from harness.training.run_trial import INTERRUPTED_EXIT, OUT_OF_MEMORY_EXIT

__all__ = ["order_of", "run_attempt"]

_POLL_S = 0.2
_CAUSES = {INTERRUPTED_EXIT: Cause.ASKED, OUT_OF_MEMORY_EXIT: Cause.MEMORY}


def order_of(
    planned: PlannedTrial,
    root: Path,
    attempt_id: str,
    *,
    exclusive: bool,
    may_retry: bool,
    abrupt: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Order:
    """What is to be run for an attempt at a planned trial; see `Order`."""
    return Order(
        str(TrialFolder(root, planned.trial.id).spec),
        str(root),
        attempt_id,
        planned.trial.backend,
        planned.resources.cpus,
        # A fork is no safe start for CUDA or on macOS, and no fair one for timings.
        fresh=exclusive or planned.resources.gpus > 0 or sys.platform != "linux",
        exclusive=exclusive,
        may_retry=may_retry,
        abrupt=abrupt,
        environment=environment or {},
    )


def run_attempt(
    processes: Processes,
    order: Order,
    stop: Stop,
    is_hung: Callable[[], bool] = lambda: False,
    refresh: Callable[[], None] = lambda: None,
) -> Ended:
    """Runs an attempt to its end.

    Arguments:
        processes: Starts the process.
        order: What it runs.
        stop: Says when to ask it to stop, and when to kill it.
        is_hung: Says when it is to be killed since its time is over.
        refresh: Called a few times a second.

    Returns:
        How the process ended; whether there is a result is in the trial's folder.
    """
    with tempfile.TemporaryFile() as output:
        process = processes.start(order, output)
        code = _waited(process, stop, is_hung, refresh)
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else f"its process ended with exit code {code}"
    if code is None:
        return Ended(Cause.HUNG, last)
    if code < 0:
        return Ended(Cause.DIED, signal.Signals(-code).name)
    return Ended(_CAUSES.get(code, Cause.RAISED), last)


def _waited(
    process: Process, stop: Stop, is_hung: Callable[[], bool], refresh: Callable[[], None]
) -> int | None:
    """Waits for the process; returns its exit code, None if it was killed because it hung."""
    asked = False
    while (code := process.wait(_POLL_S)) is None:
        refresh()
        if stop.insisted:
            process.kill()
        elif stop.requested and not asked:
            process.ask()
            asked = True
        if is_hung():
            process.kill()
            return None
    return code
