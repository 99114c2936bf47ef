"""Simulates a suite on many GPUs: no GPU is used, and no duration is measured.

    python tests/benchmarks/simulate_cluster.py [--gpus 1000] [--copies 1000] [--failures 100]

The trials are those of paper.yaml, each as often as `--copies` says. What one takes is invented:
in proportion to iterations x batch x parameters, at each pixel for images, scaled so that the
median is an hour, and with a factor of its own (log-normal, 20 %) that no estimate knows. GPUs
fail at random, the mean time between failures of one being `--failures` hours; its trial loses
what came after its last checkpoint and goes to the front of the queue, and the GPU is back after
half an hour. Printed are the makespan, beside the least that any order could reach, and the
utilisation: the share of GPU hours until the end that trials needed.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections import deque
from collections.abc import Sequence
from statistics import median

import numpy as np

from harness.architecture.arrays import parameter_count
from harness.datasets.registry import declare
from harness.interface import DataInfo
from harness.suites.builtin import find_suite
from harness.suites.grid import expand
from harness.suites.suite import load_suite
from harness.trial import Trial

_ERROR = 0.2
_CHECKPOINT_H = 1 / 60
_REPAIR_H = 0.5


def cost(trial: Trial) -> float:
    """What a trial takes, in a unit of no meaning."""
    shape = declare(trial.dataset.name).event_shape
    if shape is None:
        raise SystemExit(f"the shape of {trial.dataset.name} is known only when it is here")
    pixels = shape[1] * shape[2] if len(shape) == 3 else 1
    weights = parameter_count(trial.model, DataInfo(trial.dataset.name, shape))
    return float(trial.training.iterations * trial.training.batch * weights * pixels)


def simulate(
    hours: Sequence[float], gpus: int, between_failures_h: float, rng: np.random.Generator
) -> tuple[float, float, int]:
    """Runs trials in their order, each on the first GPU that is free.

    Arguments:
        hours: What each takes.
        gpus: How many GPUs.
        between_failures_h: Mean time between the failures of a GPU; inf for none.
        rng: Draws the failures.

    Returns:
        Makespan, h; utilisation; number of failures that hit a trial.
    """
    queue = deque(hours)
    free = [(0.0, gpu) for gpu in range(gpus)]
    makespan, failures = 0.0, 0
    # By the time of the failure: no GPU takes one up before.
    returned: list[tuple[float, float]] = []
    while queue or returned:
        now, gpu = heapq.heappop(free)
        if returned and returned[0][0] <= now:
            left = heapq.heappop(returned)[1]
        elif queue:
            left = queue.popleft()
        else:
            heapq.heappush(free, (returned[0][0], gpu))
            continue
        fails = between_failures_h < math.inf
        fails_after = float(rng.exponential(between_failures_h)) if fails else math.inf
        if fails_after < left:
            failures += 1
            kept = fails_after - min(fails_after, _CHECKPOINT_H * float(rng.uniform()))
            heapq.heappush(returned, (now + fails_after, left - kept))
            heapq.heappush(free, (now + fails_after + _REPAIR_H, gpu))
            continue
        makespan = max(makespan, now + left)
        heapq.heappush(free, (now + left, gpu))
    return makespan, sum(hours) / (gpus * makespan), failures


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--failures", type=float, default=100.0)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    points = [p.trial for p in expand(load_suite(find_suite("paper"))) if p.excluded is None]
    # As a run orders them: one seed of everything first.
    costs = [cost(trial) for trial in sorted(points, key=lambda trial: trial.seed)]
    expected = np.array(costs * given.copies) / median(costs)
    print(f"{len(expected)} trials of {min(expected):.2g} to {max(expected):.3g} h")
    print("| order | failures | makespan, h | least possible, h | utilisation | hit trials |")
    print("|---|---|--:|--:|--:|--:|")
    for failing in (math.inf, given.failures):
        for order in ("first come", "longest first"):
            found, bounds = [], []
            for repeat in range(given.repeats):
                rng = np.random.default_rng(repeat)
                hours = expected * np.exp(_ERROR * rng.standard_normal(len(expected)))
                if order == "longest first":
                    hours = hours[np.argsort(-expected, kind="stable")]
                bounds.append(max(float(hours.max()), float(hours.sum()) / given.gpus))
                found.append(simulate(hours.tolist(), given.gpus, failing, rng))
            spans, uses, hits = zip(*found, strict=True)
            said = "none" if failing == math.inf else f"each GPU every {failing:g} h"
            spread = f"{median(spans):.4g} ({min(spans):.4g} to {max(spans):.4g})"
            print(
                f"| {order} | {said} | {spread} | {median(bounds):.4g} | "
                f"{100 * median(uses):.0f} % | {median(hits):.0f} |"
            )


if __name__ == "__main__":
    main()
