"""What a run shows while it runs: a line for each running trial and the totals.

On a terminal the lines stay in place; elsewhere (a log, a pipe) each event is a line of its own.
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

from harness.labels import short_name
from harness.planning.plan import PlannedTrial
from harness.process.watch import Progress, read_progress
from harness.records.status import Status

__all__ = ["Board"]

_PLAIN_EVERY_S = 30.0


class Board:
    """Follows the trials of a run; see `harness.executors.observer.Observer`.

    Arguments:
        trials: The trials that will run.
        console: Where to write.
        live: Keep lines in place; None means on a terminal only.
    """

    def __init__(
        self,
        trials: Sequence[PlannedTrial],
        console: Console | None = None,
        live: bool | None = None,
    ) -> None:
        self._total = len(trials)
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

    def ended(self, planned: PlannedTrial, status: Status) -> None:
        """A trial has a result."""
        self._attempts.pop(planned.trial.id, None)
        self._ended[planned.trial.id] = status
        if status is not Status.OK or self._live is None:
            count = f"{len(self._ended)}/{self._total}"
            word = status.value.replace("_", " ")
            self.note(f"{count}  {word}: {short_name(planned.trial)}  ({planned.trial.id})")

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
            running = [
                f"{name} {progress.phase} {_steps(progress)}" for name, progress in self._running()
            ]
            self.note(self._totals() + "".join(f"\n  {line}" for line in running))

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """What cannot be printed (a closed pipe, a lost terminal) is not worth a trial."""
        try:
            yield
        # rich answers a closed pipe with SystemExit.
        except (OSError, ValueError, SystemExit):
            self._live = None
            self._console = Console(file=io.StringIO())

    def _running(self) -> list[tuple[str, Progress]]:
        running = []
        for planned, attempt in self._attempts.values():
            progress = read_progress(attempt)
            if progress is not None:
                running.append((short_name(planned.trial), progress))
        return running

    def _totals(self) -> str:
        failed = sum(1 for status in self._ended.values() if status is not Status.OK)
        parts = [f"{len(self._ended)} of {self._total} trials ended"]
        if failed:
            parts.append(f"{failed} not ok")
        return ", ".join([*parts, f"after {_duration(time.monotonic() - self._began)}"])

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading in ("trial", "phase"):
            table.add_column(heading, no_wrap=True, overflow="ellipsis")
        for heading in ("step", "loss", "NFE", "left"):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, progress in self._running():
            table.add_row(
                name,
                progress.phase,
                _steps(progress),
                "" if progress.loss is None else f"{progress.loss:.4g}",
                "" if progress.nfe is None else f"{progress.nfe:.0f}",
                "" if progress.eta_s is None else _duration(progress.eta_s),
            )
        table.caption, table.caption_justify = self._totals(), "left"
        return table


def _steps(progress: Progress) -> str:
    return f"{progress.step}/{progress.iterations}"


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
