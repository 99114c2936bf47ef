"""How much memory is at hand for a trial, and how much its process has taken."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

__all__ = [
    "Footprint",
    "gpu_name",
    "is_out_of_memory",
    "memory_above",
    "memory_at_hand",
    "oom_kills",
    "peak_host_bytes",
    "says_memory",
]


def memory_at_hand(device: Literal["cpu", "gpu"], gpus: float, cores: int) -> int | None:
    """Bytes that a trial may count on, None if they cannot be found out.

    On a GPU its share of the device; on the host the share of its cores in what is available, so
    that trials beside it have theirs.
    """
    if device == "gpu":
        total = _gpu_bytes()
        return None if total is None else int(total * min(1.0, gpus))
    available = _host_bytes()
    share = min(1.0, cores / (os.cpu_count() or 1))
    return None if available is None else int(available * share)


def peak_host_bytes() -> int:
    """Largest resident size that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(_highest.bytes, peak if sys.platform == "darwin" else peak * 1024)


class _Highest:
    """The peak before the system's own mark of it was last set back."""

    bytes = 0


_highest = _Highest()


def memory_above(call: Callable[[], Any]) -> int | None:
    """Highest resident memory during a call, above that before it, bytes; None where Linux's
    counters are not there.
    """
    footprint = Footprint()
    footprint.enter("call")
    call()
    footprint.enter(None)
    return footprint.above.get("call")


class Footprint:
    """Highest resident memory by phase, above what the process held when this was made.

    Arguments:
        above: Takes bytes by phase, and has those of earlier attempts; the highest stays.

    The high-water mark of a process includes imports and compilation, so it is set back for each
    phase (writing 5 to clear_refs), after the allocator has given back what was left free: else
    that would count in the phase that follows. Where Linux's counters are not there, no phase has
    a number.
    """

    def __init__(self, above: dict[str, int] | None = None) -> None:
        self.above = {} if above is None else above
        self._phase: str | None = None
        self._before: int | None = None
        gc.collect()
        with suppress(OSError, AttributeError, StopIteration):
            _trim()
            self._before = _status("VmRSS")

    def enter(self, phase: str | None) -> None:
        """Ends the phase that goes on, and begins another; None begins none."""
        try:
            if self._phase is not None and self._before is not None:
                reached = max(0, _status("VmHWM") - self._before)
                self.above[self._phase] = max(self.above.get(self._phase, 0), reached)
            _highest.bytes = peak_host_bytes()
            _trim()
            Path("/proc/self/clear_refs").write_text("5")
            self._phase = phase
        except (OSError, AttributeError, StopIteration):
            self._before, self._phase = None, None


def _trim() -> None:
    """Gives freed memory back to the system."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def gpu_name() -> str | None:
    """Name of the first GPU that this process may see; None if there is none."""
    return _asked_of_gpu("name")


def _gpu_bytes() -> int | None:
    """Memory of the first GPU that this process may see."""
    with suppress(ValueError, TypeError):
        return int(_asked_of_gpu("memory.total") or "") * 2**20
    return None


def _asked_of_gpu(what: str) -> str | None:
    """What the driver of the first visible GPU says."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command + (["-i", visible] if visible else []),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout.splitlines()[0].strip()
    except (OSError, IndexError, subprocess.SubprocessError):
        return None


def _host_bytes() -> int | None:
    """What the system has available, within the limit of this process's control group."""
    bounds = []
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                bounds.append(int(line.split()[1]) * 1024)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        folder = Path("/sys/fs/cgroup")
        with suppress(OSError, ValueError):
            most = int((folder / limit).read_text(encoding="utf-8"))
            bounds.append(max(0, most - int((folder / used).read_text(encoding="utf-8"))))
    return min(bounds, default=None)


def is_out_of_memory(error: Exception) -> bool:
    """True for what frameworks raise; they have types of their own, and texts below Python."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    is_type = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return is_type or says_memory(str(error))


def says_memory(text: str) -> bool:
    """True for the words in which a framework or its allocator says that memory ran out."""
    return any(word in text.lower() for word in _WORDS)


_WORDS = (
    *("resource_exhausted", "out of memory", "std::bad_alloc", "alloc_failed"),
    *("can't allocate memory", "cannot allocate memory"),
)


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory, as far as it says.

    Of the control group of this process, as of a batch job or a container, or of the machine.
    """
    groups: list[Path] = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kind, path = line.split(":", 2)
            if not kind:
                groups.append(Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.events")
            elif kind == "memory":
                folder = Path("/sys/fs/cgroup/memory") / path.lstrip("/")
                groups.append(folder / "memory.oom_control")
    for place in (*groups, Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        with suppress(OSError, ValueError):
            for line in place.read_text(encoding="utf-8").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0
