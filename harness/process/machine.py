"""What a span of time was like on this machine: what this process had of it, and what others took.

File locks know only trials of one user with one temporary folder. The system's own counters know
every process, so whether a timing was disturbed is asked of them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

__all__ = ["LEAST_S", "Meter", "Usage", "counting_stops"]

LEAST_S = 1.0
"""A shorter span of a whole trial says nothing of others: the system counts in ticks."""

_MOST_LOST = 0.05
"""Share of a span for which a process may lack cores that it could use: what a timer tick and the
system's own threads take stays below."""
_MOST_OTHERS = 0.25
"""Cores that others may use at the same time: what an idle desktop and the run that waits for the
trial take stays below."""
_MOST_STOLEN = 0.05
"""Cores that the hypervisor may give to other guests."""


@dataclass(frozen=True)
class Usage:
    """Processor time in a span of time; None where the system does not say.

    Arguments:
        wall_s: Seconds by the clock.
        cpu_s: Processor time of this process, all threads.
        waited_s: Time for which its threads were ready to run and had no core, summed.
        busy_s: Processor time of all processes of the machine.
        stolen_s: Time that the hypervisor gave to other guests.
        load: Load average of the last minute, at the end.
        throttled: Periods in which the CPU quota of its control group stopped it.
        throttled_s: For how long, all cores summed.
        stops: How often it went on after it had been stopped (SIGSTOP, a debugger, a suspended
            job), where `counting_stops` counts.
    """

    wall_s: float
    cpu_s: float
    waited_s: float | None
    busy_s: float | None
    stolen_s: float | None
    load: float | None
    throttled: int | None = None
    throttled_s: float | None = None
    stops: int = 0

    @property
    def others(self) -> float | None:
        """Cores that other processes used, on average."""
        if self.busy_s is None or self.wall_s <= 0:
            return None
        return max(0.0, self.busy_s - self.cpu_s) / self.wall_s

    def lost(self, cores: int) -> float | None:
        """Share of the span for which the process lacked a core, of `cores` that it may use.

        Threads of one process also wait for each other; that is no loss while all its cores are
        busy with it.
        """
        if self.waited_s is None or self.wall_s <= 0:
            return None
        idle_s = max(0.0, cores * self.wall_s - self.cpu_s)
        return min(self.waited_s, idle_s) / self.wall_s

    def disturbance(self, cores: int) -> str | None:
        """Why the span is no measure of the process alone; None if it is, as far as is known."""
        if self.stops:
            return f"it was stopped and went on, {self.stops} x"
        if self.throttled_s is not None and self.throttled_s > _MOST_LOST * self.wall_s:
            return (
                f"the CPU quota of its control group stopped it in {self.throttled} periods, for "
                f"{self.throttled_s:.1f} s"
            )
        lost, others = self.lost(cores), self.others
        if lost is not None and lost > _MOST_LOST:
            return f"it waited for its cores {100 * lost:.0f} % of the time"
        if others is not None and others > _MOST_OTHERS:
            return f"other processes used {others:.1f} cores"
        if self.stolen_s is not None and self.stolen_s > _MOST_STOLEN * self.wall_s:
            return f"the hypervisor took {self.stolen_s / self.wall_s:.2f} cores"
        return None

    def with_processes(self, parts: Iterable[Usage]) -> Usage:
        """This span as one of several processes together: of this one, which waited, and others
        which worked in it one after the other.
        """
        members = tuple(parts)
        waits = [part.waited_s for part in members]
        return replace(
            self,
            cpu_s=self.cpu_s + sum(part.cpu_s for part in members),
            waited_s=None if None in waits else sum(wait or 0.0 for wait in waits),
        )

    def summary(self) -> dict[str, float | None]:
        """The values as a record has them, with the cores that others used."""
        return {**asdict(self), "others": self.others}


@dataclass(frozen=True)
class _Counters:
    wall_s: float
    cpu_s: float
    waited_s: float | None
    busy_s: float | None
    stolen_s: float | None
    throttled: int | None
    throttled_s: float | None
    stops: int

    @staticmethod
    def now() -> _Counters:
        return _Counters(
            time.perf_counter(),
            time.process_time(),
            _waited(),
            *_machine(),
            *_throttled(),
            _stops.count,
        )


class Meter:
    """Measures the span from its making to each reading."""

    def __init__(self) -> None:
        self._start = _Counters.now()

    def read(self) -> Usage:
        """What the span was like until now."""
        start, end = self._start, _Counters.now()
        return Usage(
            end.wall_s - start.wall_s,
            end.cpu_s - start.cpu_s,
            _since(start.waited_s, end.waited_s),
            _since(start.busy_s, end.busy_s),
            _since(start.stolen_s, end.stolen_s),
            _load(),
            _since_count(start.throttled, end.throttled),
            _since(start.throttled_s, end.throttled_s),
            end.stops - start.stops,
        )


class _Stops:
    """How often this process has gone on after a stop."""

    count = 0


_stops = _Stops()


@contextmanager
def counting_stops() -> Iterator[None]:
    """Counts how often the process goes on after it was stopped, while the context lasts.

    No clock says for how long: a stopped process is neither running nor waiting for a core.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def went_on(*_: object) -> None:
        _stops.count += 1

    before = signal.signal(signal.SIGCONT, went_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, before)


def _since_count(start: int | None, end: int | None) -> int | None:
    return None if start is None or end is None else max(0, end - start)


def _since(start: float | None, end: float | None) -> float | None:
    # Threads that end take their counts with them.
    return None if start is None or end is None else max(0.0, end - start)


def _waited() -> float | None:
    """Seconds for which the threads of this process have waited for a core so far."""
    total, seen = 0, False
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with suppress(OSError, ValueError, IndexError):
                # Time on a core, time in the queue (both in ns), number of turns.
                total += int((task / "schedstat").read_text().split()[1])
                seen = True
    return total / 1e9 if seen else None


def _throttled() -> tuple[int | None, float | None]:
    """Periods and seconds for which CPU quotas have stopped this process's control groups so far.

    A quota may be that of a group above; the one that has stopped it most is the one that counts.
    """
    found = [stat for folder in _groups() if (stat := _quota(folder / "cpu.stat")) is not None]
    return max(found, default=(None, None), key=lambda stat: stat[1] or 0.0)


def _quota(place: Path) -> tuple[int, float] | None:
    try:
        words = dict(line.split() for line in place.read_text(encoding="utf-8").splitlines())
        # Version 2 says microseconds, version 1 nanoseconds.
        usec = int(words.get("throttled_usec") or int(words["throttled_time"]) / 1000)
        return int(words["nr_throttled"]), usec / 1e6
    except (OSError, ValueError, KeyError):
        return None


def _groups() -> Iterator[Path]:
    """Folders of the control groups of this process that may have a CPU quota, innermost first."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if not kinds or "cpu" in kinds.split(","):
                mount = _CGROUP / kinds if kinds else _CGROUP
                # Within a container the path may be that of the host: only its end is there then.
                inner = Path(path.lstrip("/"))
                for folder in (inner, *inner.parents):
                    yield mount / folder


_CGROUP = Path("/sys/fs/cgroup")


def _machine() -> tuple[float | None, float | None]:
    """Seconds that all cores have been busy, and those that the hypervisor kept, since boot."""
    if sys.platform != "linux":
        return None, None
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        # user nice system idle iowait irq softirq steal; guests are within user.
        ticks = dict(zip(_FIELDS, map(int, first[1:]), strict=False))
        return _seconds(ticks, _BUSY), _seconds(ticks, ("steal",))
    except (OSError, ValueError, KeyError):
        return None, None


_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_BUSY = ("user", "nice", "system", "irq", "softirq")


def _seconds(ticks: Mapping[str, int], names: Iterable[str]) -> float:
    return sum(ticks[name] for name in names) / os.sysconf("SC_CLK_TCK")


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None
