"""How often `harness compare` sees a planted slowdown, and how often one that is not there.

    python tests/benchmarks/compare_rates.py --repetitions 20 --slowdown 0.03

A repetition is two run roots with a record a seed, as two commits leave them. Each record has the
median of real training steps of a small flow, the two sides of a seed one after the other, in
alternating order. The slower side works on after each step for a share of the time that the step
took. Steps are timed by the processor time of this process, which other programs disturb less than
the wall clock; `--clock wall` is for a quiet machine.
"""

from __future__ import annotations

import argparse
import collections
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fakes import result_json

from harness.backends import get_backend
from harness.commands.compare import compare
from harness.comparison.sides import Margins
from harness.datasets import registry as datasets
from harness.interface import Control
from harness.records.folder import TrialFolder
from harness.specs.resources import Resources
from harness.training.batches import training_batch
from harness.trial import DatasetRef, FixedSolver, ModelSpec, Training, Trial

CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}


class Steps:
    """A small flow whose training steps are timed."""

    def __init__(self, backend: str, clock: Callable[[], float]) -> None:
        declared = datasets.declare("8gaussians")
        self.trial = Trial(
            DatasetRef("8gaussians", declared.digest),
            backend,
            FixedSolver("rk4_38", 2),
            model=ModelSpec(hidden=(64, 64)),
            training=Training(iterations=100, batch=100, trace="exact"),
            gradient="direct",
        )
        self._clock = clock
        framework = get_backend(backend)
        framework.prepare(self.trial, 1)
        dataset = datasets.load("8gaussians", declared.digest)
        self._batch = training_batch(self.trial, dataset, 0)[0]
        self._model = framework.open(self.trial, dataset.info, "cpu")
        training = self.trial.training
        self._control = Control(
            self.trial.solver, training.trace, "direct", 0, 0.0, 1.0, training.probes
        )
        self._model.compile(self._batch, self._control)
        self.median(20, 0.0)

    def median(self, count: int, slowdown: float) -> float:
        """Median seconds of a training step, each followed by further work for a share of it."""
        seconds = []
        for _ in range(count):
            start = self._clock()
            self._model.train_step(self._batch, self._control).fetch()
            end = start + (self._clock() - start) * (1 + slowdown)
            while self._clock() < end:
                pass
            seconds.append(self._clock() - start)
        return statistics.median(seconds)


def repetition(steps: Steps, pairs: int, count: int, slowdown: float) -> tuple[str, float]:
    """Two roots as two commits leave them; the verdict in sum, and the ratio of step times."""
    with tempfile.TemporaryDirectory() as folder:
        roots = Path(folder, "before"), Path(folder, "after")
        for seed in range(pairs):
            sides = [(roots[0], 0.0), (roots[1], slowdown)]
            for root, share in sides if seed % 2 == 0 else sides[::-1]:
                trial = replace(steps.trial, seed=seed)
                median = steps.median(count, share)
                content = result_json(
                    trial.id,
                    status="ok",
                    metrics={"test_nll": {"value": 1.0 + 0.01 * seed, "unit": "nats", "n": 100}},
                    timing={"step_s": {"median": median, "n": count}, "mode": "exclusive"},
                    environment={"hardware_fingerprint": "here"},
                )
                written = TrialFolder(root, trial.id)
                written.write_spec(trial, Resources(), "rates")
                written.commit_result(content)
        found = compare(*roots, Margins()).speed
    if found is None:
        raise RuntimeError("no verdict on speed")
    return found.outcome, math.exp(found.estimate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=8, help="seeds a repetition")
    parser.add_argument("--steps", type=int, default=40, help="training steps a record")
    parser.add_argument("--slowdown", type=float, default=0.03)
    asked = parser.parse_args()
    steps = Steps(asked.backend, CLOCKS[asked.clock])
    found: dict[float, list[tuple[str, float]]] = {0.0: [], asked.slowdown: []}
    for _ in range(asked.repetitions):
        # In turn, so that the machine is the same for both.
        for slowdown, outcomes in found.items():
            outcomes.append(repetition(steps, asked.pairs, asked.steps, slowdown))
            print(".", end="", file=sys.stderr, flush=True)
    print("\n| planted | worse | undecided | same | better | ratio, median (range) |")
    print("|---|---|---|---|---|---|")
    for slowdown, outcomes in found.items():
        counts = collections.Counter(outcome for outcome, _ in outcomes)
        ratios = [ratio for _, ratio in outcomes]
        cells = [f"{counts[name]} of {len(outcomes)}" for name in _OUTCOMES]
        middle = statistics.median(ratios)
        spread = f"{middle:.4f} ({min(ratios):.4f} to {max(ratios):.4f})"
        print(f"| {slowdown:.0%} | {' | '.join(cells)} | {spread} |")


_OUTCOMES = ("worse", "undecided", "same", "better")

if __name__ == "__main__":
    main()
