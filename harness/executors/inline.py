"""Runs trials one after the other without Ray.

A single trial runs in this process, for debuggers. Several run in a fresh process each, because
one process holds one framework and one precision.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from harness.executors.attempts import order_of, run_attempt
from harness.executors.ending import Ended
from harness.executors.observer import Observer, Stop
from harness.executors.processes import Processes
from harness.executors.retries import Deadline, Retries
from harness.planning.plan import PlannedTrial
from harness.process.watch import Progress
from harness.records.folder import TrialFolder
from harness.training.run_trial import RunOptions, new_attempt_id, run_trial

__all__ = ["run_inline"]


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
    with closing(Processes()) as processes:
        for planned in trials:
            if stop.requested:
                return
            _Child(planned, root, observer, stop, retries, exclusive).run(processes)


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

    def run(self, processes: Processes) -> None:
        """Runs attempts until the trial has a result or a stop is requested."""
        ended: Ended | None = None
        attempt_id = ""
        while ended is None or self._retries.settle(self._planned, attempt_id, ended):
            attempt_id = new_attempt_id()
            ended = self._attempt(processes, attempt_id)

    def _attempt(self, processes: Processes, attempt_id: str) -> Ended:
        attempt = self._folder.attempt(attempt_id)
        self._observer.submitted(self._planned, attempt)
        order = order_of(
            self._planned,
            self._root,
            attempt_id,
            exclusive=self._exclusive,
            may_retry=self._retries.has_memory_retry(self._planned.trial.id),
        )
        is_hung = Deadline(self._planned, attempt).is_over
        return run_attempt(processes, order, self._stop, is_hung, self._observer.refresh)
