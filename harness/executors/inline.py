"""Runs trials one after the other without Ray.

A single trial runs in this process, for debuggers. Several run in a fresh process each, because
one process holds one framework and one precision.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from harness.executors.observer import Observer, Stop
from harness.executors.retries import Cause, Deadline, Ended, Retries
from harness.planning.plan import PlannedTrial
from harness.process.watch import Progress
from harness.records.folder import TrialFolder
from harness.training.run_trial import (
    INTERRUPTED_EXIT,
    OUT_OF_MEMORY_EXIT,
    RunOptions,
    new_attempt_id,
    run_trial,
)

__all__ = ["run_inline"]

_POLL_S = 0.2
_CAUSES = {INTERRUPTED_EXIT: Cause.ASKED, OUT_OF_MEMORY_EXIT: Cause.MEMORY}


def run_inline(
    trials: Sequence[PlannedTrial],
    root: Path,
    observer: Observer,
    stop: Stop,
    *,
    exclusive: bool = False,
) -> None:
    """Runs trials until all have a result or a stop is requested.

    Arguments:
        trials: The trials; their spec.json is written.
        root: The run root.
        observer: Follows the trials.
        stop: Says when to stop.
        exclusive: Run while no other trial runs on this machine.
    """
    if len(trials) == 1:
        _run_here(trials[0], root, observer, stop, exclusive)
        return
    retries = Retries(root, observer, stop)
    for planned in trials:
        if stop.requested:
            return
        _Child(planned, root, observer, stop, retries, exclusive).run()


def _run_here(
    planned: PlannedTrial, root: Path, observer: Observer, stop: Stop, exclusive: bool
) -> None:
    attempt_id = new_attempt_id()
    observer.submitted(planned, TrialFolder(root, planned.trial.id).attempt(attempt_id))

    def progress(_: Progress) -> None:
        # A request that came before the trial took the signals.
        if stop.requested:
            raise KeyboardInterrupt
        observer.refresh()

    options = RunOptions(progress=progress, attempt_id=attempt_id, exclusive=exclusive)
    try:
        with _settings_restored():
            status = run_trial(planned.trial, root, planned.resources, options)
    except KeyboardInterrupt:
        stop.request()
        observer.stopped(planned)
    else:
        observer.ended(planned, status)


@contextmanager
def _settings_restored() -> Iterator[None]:
    """Undoes what pinning did to this process."""
    variables = dict(os.environ)
    cores = os.sched_getaffinity(0) if sys.platform == "linux" else None
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(variables)
        if cores is not None:
            with suppress(PermissionError):
                os.sched_setaffinity(0, cores)


class _Child:
    """One trial in processes of its own, attempt after attempt."""

    def __init__(
        self,
        planned: PlannedTrial,
        root: Path,
        observer: Observer,
        stop: Stop,
        retries: Retries,
        exclusive: bool,
    ) -> None:
        self._planned, self._root = planned, root
        self._observer, self._stop, self._retries = observer, stop, retries
        self._exclusive = exclusive
        self._folder = TrialFolder(root, planned.trial.id)

    def run(self) -> None:
        """Runs attempts until the trial has a result or a stop is requested."""
        attempt_id = new_attempt_id()
        while self._retries.settle(self._planned, attempt_id, self._attempt(attempt_id)):
            attempt_id = new_attempt_id()

    def _attempt(self, attempt_id: str) -> Ended:
        attempt = self._folder.attempt(attempt_id)
        self._observer.submitted(self._planned, attempt)
        with tempfile.TemporaryFile() as output:
            process = self._start(attempt_id, output)
            hung = self._wait(process, Deadline(self._planned, attempt))
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines()
        code = process.returncode
        last = lines[-1] if lines else f"its process ended with exit code {code}"
        if hung:
            return Ended(Cause.HUNG, last)
        if code < 0:
            return Ended(Cause.DIED, signal.Signals(-code).name)
        return Ended(_CAUSES.get(code, Cause.RAISED), last)

    def _start(self, attempt_id: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        # -P: files of the working directory are not taken for modules.
        command = [sys.executable, "-P", "-m", "harness.training", str(self._folder.spec)]
        command += ["--root", str(self._root), "--attempt", attempt_id, "--quiet"]
        command += ["--parent", str(os.getpid())]
        if self._exclusive:
            command.append("--exclusive")
        if self._retries.has_memory_retry(self._planned.trial.id):
            command.append("--may-retry")
        # A group of its own: Ctrl-C reaches it once, through this process, and a kill reaches all
        # that it started.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
        )

    def _wait(self, process: subprocess.Popen[bytes], deadline: Deadline) -> bool:
        """Waits for the process; True if it had to be killed because it hung."""
        asked = False
        while process.poll() is None:
            self._observer.refresh()
            if self._stop.insisted:
                _kill(process)
            elif self._stop.requested and not asked:
                process.terminate()
                asked = True
            if deadline.is_over():
                _kill(process)
                process.wait()
                return True
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
        return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
