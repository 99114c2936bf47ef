"""One contender in a process of its own: takes a training step for each line on standard input.

    python bench_worker.py NAME WORKLOAD [REFERENCE.npy]
    python bench_worker.py reference WORKLOAD REFERENCE.npy

Prints a JSON line when ready and one a step. Without a reference it ends after the first step,
whose seconds tell a cold start from a warm one. A process each, because torch and jax do not share
one and the memory of each is to be known.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bare_field import FIELDS
from contenders import Contender, NotBuilt, build
from workloads import WORKLOADS, Workload, largest_error

from harness.process.memory import memory_above

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
