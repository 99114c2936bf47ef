"""What a training step of flow matching takes of one core beside a step by likelihood.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_matching.py [BACKEND]

The models of suites/objectives.yaml take their steps in turn, five rounds each, torch operation by
operation. A step is from the drawn batch to the updated arrays, paths and coupling included; its
time is the processor's, which a busy machine stretches less than the wall's. Where torchcfm is
installed, its flow matcher with the same net and torch's own Adam is in the row too.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

from harness.architecture.arrays import initial_arrays
from harness.architecture.matching import matched
from harness.architecture.noise import draw, noise_slots
from harness.architecture.transforms import blocks_of
from harness.backends import get_backend
from harness.interface import Batch, Control, DataInfo
from harness.measuring.tally import quartiles
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    EndTime,
    FlowMatching,
    MaximumLikelihood,
    ModelSpec,
    ObjectiveSpec,
    TraceName,
    Training,
    Trial,
)

OBJECTIVES: Mapping[str, ObjectiveSpec] = {
    "likelihood": MaximumLikelihood(),
    "flow matching": FlowMatching(),
    "flow matching, optimal coupling": FlowMatching(coupling="minibatch_ot"),
}
ROUNDS = 5

Step = Callable[[int], float]
"""Number of a step to the seconds that it took."""


def _trial(
    backend: str, objective: ObjectiveSpec, hidden: tuple[int, ...], batch: int, trace: TraceName
) -> Trial:
    return Trial(
        DatasetRef("none", "none"),
        backend,
        AdaptiveSolver("dopri5"),
        model=ModelSpec("concatsquash", hidden, "tanh", 1, EndTime(0.5)),
        training=Training(batch=batch, trace=trace),
        gradient="direct",
        objective=objective,
    )


def _rows(trial: Trial, dimensions: int, number: int) -> np.ndarray:
    rows = Stream(1, "rows", number).normal((trial.training.batch, dimensions))
    return rows.astype(trial.dtype)


def _ours(trial: Trial, dimensions: int) -> Step:
    backend = get_backend(trial.backend)
    backend.prepare(trial, 1)
    data = DataInfo("none", (dimensions,))
    model = backend.open(trial, data, "cpu", {"execution": "eager"})
    slots = noise_slots(trial, (dimensions,), "train", trial.training.batch)

    def step(number: int) -> float:
        noise = draw(slots, trial.seed, number, trial.dtype)
        batch = Batch(_rows(trial, dimensions, number), noise)
        control = Control(trial.solver, trial.training.trace, trial.gradient, number, 1e-3)
        start = time.process_time()
        model.train_step(matched(trial, batch), control)
        model.synchronize()
        return time.process_time() - start

    return step


def _torchcfm(trial: Trial, dimensions: int) -> Step:
    import torch
    from harness_torch.net.timed import value_at_times

    matcher = importlib.import_module("torchcfm.conditional_flow_matching")
    linear = matcher.ConditionalFlowMatcher(sigma=0.0)
    block = blocks_of(trial.model, (dimensions,))[0]
    arrays = {
        name.removeprefix("block0/"): torch.tensor(value).requires_grad_()
        for name, value in initial_arrays(trial, DataInfo("none", (dimensions,))).items()
        if name.startswith("block0/layer")
    }
    adam = torch.optim.Adam(arrays.values())

    def step(number: int) -> float:
        data = torch.tensor(_rows(trial, dimensions, number))
        base = torch.randn_like(data)
        start = time.process_time()
        adam.zero_grad()
        t, point, rate = linear.sample_location_and_conditional_flow(base, data)
        found = value_at_times(trial.model, block, arrays, t, point)
        torch.mean((found - rate) ** 2).backward()  # type: ignore[no-untyped-call]
        adam.step()
        return time.process_time() - start

    return step


def main(backend: str, dimensions: int, hidden: tuple[int, ...], batch: int) -> None:
    trace: TraceName = "exact" if dimensions == 2 else "hutchinson"
    trials = {
        name: _trial(backend, objective, hidden, batch, trace)
        for name, objective in OBJECTIVES.items()
    }
    steps = {name: _ours(trial, dimensions) for name, trial in trials.items()}
    if backend == "torch" and importlib.util.find_spec("torchcfm"):
        steps["torchcfm, same net"] = _torchcfm(trials["flow matching"], dimensions)
    for step in steps.values():
        step(0)
        step(1)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(ROUNDS):
        for name, step in steps.items():
            count = 4 if name == "likelihood" else 40
            seconds[name] += [step(2 + count * turn + i) for i in range(count)]
    print(f"{backend}: {dimensions} dimensions, hidden {hidden}, batches of {batch}")
    for name, found in seconds.items():
        q = quartiles(found)
        ms = [f"{1e3 * q[key]:.2f}" for key in ("median", "q25", "q75")]
        print(f"  {name}: {ms[0]} [{ms[1]}, {ms[2]}] ms, n = {len(found)}")


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "torch"
    main(chosen, 2, (64, 64, 64), 200)
    main(chosen, 64, (128, 128), 100)
