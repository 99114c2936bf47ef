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
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from harness.executors import retries as policy
from harness.executors.observer import Observer, Stop
from harness.executors.retries import Retries, commit_failure
from harness.planning.plan import PlannedTrial
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.training.run_trial import OUT_OF_MEMORY_EXIT, new_attempt_id, run_trial

__all__ = ["run_inline"]

_POLL_S = 0.2


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
        observer: Told of every trial.
        stop: Says when to stop.
        exclusive: Run while no other trial runs on this machine.
    """
    if len(trials) == 1:
        _run_here(trials[0], root, observer, stop, exclusive)
        return
    retries = Retries()
    for planned in trials:
        if stop.requested:
            return
        status = _Child(planned, root, observer, stop, retries, exclusive).run()
        observer.ended(planned, status)


def _run_here(
    planned: PlannedTrial, root: Path, observer: Observer, stop: Stop, exclusive: bool
) -> None:
    attempt_id = new_attempt_id()
    observer.submitted(planned, TrialFolder(root, planned.trial.id).attempt(attempt_id))
    status = None
    with _settings_restored():
        try:
            status = run_trial(
                planned.trial,
                root,
                planned.resources,
                progress=lambda _: observer.refresh(),
                attempt_id=attempt_id,
                exclusive=exclusive,
            )
        except KeyboardInterrupt:
            stop.requests += 1
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

    def run(self) -> Status | None:
        """Returns the committed status, None if the trial was interrupted."""
        trial_id = self._planned.trial.id
        while True:
            attempt_id = new_attempt_id()
            self._observer.submitted(self._planned, self._folder.attempt(attempt_id))
            with tempfile.TemporaryFile() as output:
                process = self._start(attempt_id, output)
                late = self._wait(process, attempt_id)
                output.seek(0)
                said = output.read().decode(errors="replace").strip().splitlines()
            code = process.returncode
            result = self._folder.read_result()
            if result is not None:
                return Status(result["status"])
            if self._stop.requested:
                return None
            if late:
                minutes = self._planned.resources.timeout_minutes
                failure = Status.TIMEOUT, f"killed: it hung beyond its {minutes:.3g} minutes"
            elif code == OUT_OF_MEMORY_EXIT and self._retries.after_memory(trial_id):
                continue
            elif code < 0:
                name = signal.Signals(-code).name
                if self._retries.after_crash(trial_id):
                    self._observer.note(f"{trial_id}: its process died ({name}); it is resumed")
                    continue
                failure = Status.KILLED, f"its process died of {name}, again after retries"
            else:
                last = said[-1] if said else f"its process ended with exit code {code}"
                failure = Status.ERROR, last
            commit_failure(self._folder, attempt_id, *failure)
            return failure[0]

    def _start(self, attempt_id: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "harness.training", str(self._folder.spec)]
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

    def _wait(self, process: subprocess.Popen[bytes], attempt_id: str) -> bool:
        """Waits for the process; True if it had to be killed because it hung."""
        limit_s = self._planned.resources.timeout_minutes * 60 + policy.GRACE_S
        attempt = self._folder.attempt(attempt_id)
        began: float | None = None
        asked = False
        while process.poll() is None:
            self._observer.refresh()
            if self._stop.insisted:
                _kill(process)
            elif self._stop.requested and not asked:
                process.terminate()
                asked = True
            # Its time begins when it has its cores.
            if began is None and (attempt / "progress.json").exists():
                began = time.monotonic()
            if began is not None and time.monotonic() - began > limit_s:
                _kill(process)
                process.wait()
                return True
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
        return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
