"""One contender in a process of its own: takes a training step for each line on standard input.

    python bench_worker.py NAME WORKLOAD [REFERENCE.npy]
    python bench_worker.py reference WORKLOAD REFERENCE.npy

Prints a JSON line when ready and one a step. Without a reference it ends after the first step,
whose seconds tell a cold start from a warm one. A process each, because torch and jax do not share
one and the memory of each is to be known.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bare_field import FIELDS
from contenders import Contender, NotBuilt, build
from workloads import WORKLOADS, Workload, largest_error

_MOST_WARM_UP_STEPS = 8


def write_reference(workload: Workload, out: Path) -> None:
    """Writes log p in float64 at tolerance 1e-10, what every error is measured against.

    It is the yardstick's: where that is the original approach, code of no backend.
    """
    contender = build(workload.yardstick, replace(workload, tolerance=1e-10), "float64")
    np.save(out, contender.values())


def first_step(contender: Contender) -> float:
    """Compiles, takes the first step, and returns the seconds of both."""
    start = time.perf_counter()
    contender.compile()
    contender.step()
    return time.perf_counter() - start


def warm_up(contender: Contender) -> dict[str, Any]:
    """Steps until the counts stay, as those of warm first steps do after the first few."""
    last = contender.step()
    for _ in range(_MOST_WARM_UP_STEPS):
        before, last = last, contender.step()
        if before.nfe == last.nfe:
            return last._asdict()
    raise RuntimeError(f"the evaluations do not settle: {before.nfe}, then {last.nfe}")


def memory_above(call: Callable[[], Any]) -> int | None:
    """Highest resident memory during a call, above that before it, bytes; None where Linux's
    counters are not there.

    The high-water mark of a process includes compilation, so it is set back first (writing 5 to
    clear_refs), after the allocator has given back what earlier steps left free; otherwise the
    call would find its memory already counted.
    """
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def serve(contender: Contender, reference: np.ndarray) -> None:
    """Says what the contender needs and how exact it is, then steps at each line of input."""
    ready = {"first_step_s": first_step(contender), **warm_up(contender)}
    ready["memory_bytes"] = memory_above(contender.step)
    values = contender.values().astype(np.float64)
    ready["error_nats"] = largest_error(values, reference)
    say(ready)
    for _ in sys.stdin:
        start = time.perf_counter()
        contender.step()
        say({"step_s": time.perf_counter() - start})


def say(line: dict[str, Any]) -> None:
    """One answer."""
    print(json.dumps(line), file=_ANSWERS, flush=True)


def main(name: str, key: str, reference: str | None = None) -> None:
    workload = WORKLOADS[key]
    if name == "reference":
        write_reference(workload, Path(str(reference)))
    elif name in FIELDS:
        timings = FIELDS[name](workload)
        timings()
        say(timings())
        for _ in sys.stdin:
            say(timings())
    else:
        contender = build(name, workload)
        if reference is None:
            say({"first_step_s": first_step(contender)})
        else:
            serve(contender, np.load(reference))


_ANSWERS = sys.stdout

if __name__ == "__main__":
    # Libraries print, too.
    sys.stdout = sys.stderr
    try:
        main(*sys.argv[1:])
    except NotBuilt as reason:
        say({"not_built": str(reason)})
