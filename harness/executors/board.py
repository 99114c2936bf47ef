"""What a run shows while it runs: a line for each finished trial, those under way, the totals.

On a terminal the trials under way and the totals stay in place below the finished ones; elsewhere
(a log, a pipe) they are printed now and then.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from harness.comparison.spread import QUALITY
from harness.errors import RecordError
from harness.executors.pace import Pace
from harness.labels import short_name
from harness.planning.plan import PlannedTrial
from harness.process.watch import Progress, read_progress
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.trial import Trial

__all__ = ["Board"]

_PLAIN_EVERY_S = 30.0


class Board:
    """Follows the trials of a run; see `harness.executors.observer.Observer`.

    Arguments:
        trials: The trials that will run.
        root: The run root, where their results are.
        console: Where to write.
        live: Keep lines in place; None means on a terminal only.
    """

    def __init__(
        self,
        trials: Sequence[PlannedTrial],
        root: Path,
        console: Console | None = None,
        live: bool | None = None,
    ) -> None:
        self._total, self._root, self._pace = len(trials), root, Pace()
        self._waiting = {planned.trial.id: planned.trial for planned in trials}
        self._console = console or Console()
        in_place = self._console.is_terminal if live is None else live
        self._live = Live(console=self._console, auto_refresh=False) if in_place else None
        self._attempts: dict[str, tuple[PlannedTrial, Path]] = {}
        self._ended: dict[str, Status] = {}
        self._began = self._plain_at = time.monotonic()

    def __enter__(self) -> Board:
        if self._live is not None:
            with self._heard():
                self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            with self._heard():
                self._live.update(self._totals(), refresh=True)
                self._live.stop()

    def submitted(self, planned: PlannedTrial, attempt: Path) -> None:
        """An attempt will run as soon as there is room."""
        self._attempts[planned.trial.id] = planned, attempt

    def stopped(self, planned: PlannedTrial) -> None:
        """A trial was asked to stop and has no result."""
        self._attempts.pop(planned.trial.id, None)
        self._waiting.pop(planned.trial.id, None)

    def ended(self, planned: PlannedTrial, status: Status) -> None:
        """A trial has a result."""
        trial, words = planned.trial, [status.value.replace("_", " ")]
        _, attempt = self._attempts.pop(trial.id, (None, None))
        self._waiting.pop(trial.id, None)
        self._ended[trial.id] = status
        progress = None if attempt is None else read_progress(attempt)
        if progress is not None:
            self._pace.ended(trial, progress.alive_s)
            words.append(f"in {_duration(progress.alive_s)}")
        found = _found(self._root, trial.id) if status is Status.OK else ""
        count = f"{len(self._ended)}/{self._total}"
        self.note(f"{count}  {' '.join(words)}: {short_name(trial)}{found}  ({trial.id})")

    def note(self, text: str) -> None:
        """Prints a line."""
        with self._heard():
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def refresh(self) -> None:
        """Brings the lines up to date."""
        if self._live is not None:
            with self._heard():
                self._live.update(self._table(), refresh=True)
        elif time.monotonic() - self._plain_at > _PLAIN_EVERY_S:
            self._plain_at = time.monotonic()
            running = self._running()
            lines = [
                f"\n  {short_name(trial)} {progress.phase} {_steps(progress)}"
                for trial, progress in running
            ]
            self.note(self._totals(running) + "".join(lines))

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """What cannot be printed (a closed pipe, a lost terminal) is not worth a trial."""
        try:
            yield
        # rich answers a closed pipe with SystemExit.
        except (OSError, ValueError, SystemExit):
            self._live = None
            self._console = Console(file=io.StringIO())

    def _running(self) -> list[tuple[Trial, Progress]]:
        running = []
        for planned, attempt in self._attempts.values():
            progress = read_progress(attempt)
            if progress is not None:
                running.append((planned.trial, progress))
        return running

    def _totals(self, running: Sequence[tuple[Trial, Progress]] = ()) -> str:
        failed = sum(1 for status in self._ended.values() if status is not Status.OK)
        parts = [f"{len(self._ended)} of {self._total} trials ended"]
        if failed:
            parts.append(f"{failed} not ok")
        parts.append(f"after {_duration(time.monotonic() - self._began)}")
        under_way = {trial.id for trial, _ in running}
        waiting = [trial for name, trial in self._waiting.items() if name not in under_way]
        left = self._pace.remaining(running, waiting)
        if left:
            parts.append(f"about {_duration(left)} left")
        return ", ".join(parts)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading in ("trial", "phase"):
            table.add_column(heading, no_wrap=True, overflow="ellipsis")
        for heading in ("step", "loss", "NFE", "left"):
            table.add_column(heading, justify="right", no_wrap=True)
        running = self._running()
        for trial, progress in running:
            table.add_row(
                short_name(trial),
                progress.phase,
                _steps(progress),
                "" if progress.loss is None else f"{progress.loss:.4g}",
                "" if progress.nfe is None else f"{progress.nfe:.0f}",
                "" if progress.eta_s is None else _duration(progress.eta_s),
            )
        table.caption, table.caption_justify = self._totals(running), "left"
        return table


def _found(root: Path, trial_id: str) -> str:
    """What a trial is judged by, as `, test_nll 3.114 nats`; empty if there is no such number."""
    try:
        result = TrialFolder(root, trial_id).read_result() or {}
    except RecordError:
        # Whoever reads the records next says so; here it is worth no run.
        return ""
    metrics = result.get("metrics") or {}
    for name in ("test_bits_per_dim", *QUALITY):
        entry = metrics.get(name) or {}
        if entry.get("value") is not None:
            return f", {name} {entry['value']:.4g} {entry.get('unit', '')}".rstrip()
    return ""


def _steps(progress: Progress) -> str:
    return f"{progress.step}/{progress.iterations}"


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
