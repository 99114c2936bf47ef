"""Times the harness itself: what a trial costs beside its training, and what a grid costs.

    python tests/benchmarks/bench_harness.py [--trials 20] [--grid 10000] [--backend torch jax]

A trial is one of a single step. Its cost is the processor time of its process, children included,
without the first, which fills the caches of compiled programs. A grid is one of 10,000 trials of
a backend that needs numpy only, and their records invented. Processor time is what is compared:
it depends little on who else uses the machine.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fakes"))

from fakes import environment, fake_trial, result_json, write_spec
from rich.console import Console

from harness.executors.attempts import run_attempt
from harness.executors.board import Board
from harness.executors.ending import Cause, Ended
from harness.executors.inline import _Child
from harness.executors.observer import Stop
from harness.executors.processes import Order, Processes
from harness.executors.retries import Retries
from harness.planning.plan import PlannedTrial, plan
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.specs.resources import Resources
from harness.trial import Evaluation, FixedSolver, ModelSpec, Trial

_HARNESS = [sys.executable, "-c", "from harness.cli import main; main()"]
_SUITE = """name: grid
trials:
  - dataset: moons
    backend: fake
    seed: {seeds}
    regularizer: none
    solver: [{solvers}]
    model: {{layer: concat, hidden: [4], end_time: {{value: 0.5}}}}
    training: {{iterations: 1, batch: 10, validate_every: 1, validation_rows: 50}}
    evaluation: {{trace: exact, rows: 50, batch: 50}}
resources: {{cpus: 1, timeout_minutes: 10}}
"""


def toys(backend: str, count: int) -> list[Trial]:
    """Trials of one step that differ in the seed."""
    base = replace(
        fake_trial(iterations=1, batch=10, validate_every=1, validation_rows=50),
        backend=backend,
        solver=FixedSolver("rk4_38", 2),
        model=ModelSpec(hidden=(4,)),
        evaluation=Evaluation(rows=50, batch=10_000),
    )
    return [replace(base, seed=seed) for seed in range(count)]


def _children_s() -> float:
    """Processor seconds of the children of this process that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _forked_s(processes: Processes) -> float:
    """The same of the children of its templates."""
    total = 0
    for template in processes._templates.values():
        text = Path(f"/proc/{template._process.pid}/stat").read_text()
        # cutime and cstime: fields 16 and 17, of which the name ends with the last bracket.
        total += sum(map(int, text.rpartition(")")[2].split()[13:15]))
    return total / os.sysconf("SC_CLK_TCK")


def trial_costs(trials: Sequence[Trial], root: Path, fresh: bool) -> list[float]:
    """Processor seconds of trials, one after the other; the first pays for what is cached."""
    costs = []
    with closing(Processes()) as processes:
        for trial in trials:
            spec = write_spec(root, trial)
            order = Order(str(spec), str(root), "one", trial.backend, 1, fresh=fresh)
            before = _children_s() + _forked_s(processes)
            ended = run_attempt(processes, order, Stop())
            costs.append(_children_s() + _forked_s(processes) - before)
            result = TrialFolder(root, trial.id).read_result()
            if result is None or result["status"] != "ok":
                raise SystemExit(f"{trial.backend}: {ended}, {result and result['message']}")
    return costs[1:]


def scheduled(count: int) -> tuple[float, float, float]:
    """Processor and wall seconds of the loop that schedules, a trial, and how much memory it
    takes more at the end than after a tenth, MiB; processes and records are stand-ins.
    """
    planned = [PlannedTrial(trial, "to_run", None, Resources()) for trial in toys("torch", count)]
    ended = Ended(Cause.ASKED, "")
    sizes: list[float] = []

    class Counted(Board):
        def ended(self, planned: PlannedTrial, status: Status) -> None:
            super().ended(planned, status)
            sizes.append(_resident())

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for each in planned:
            made = TrialFolder(root, each.trial.id)
            made.path.mkdir(parents=True)
            made.result.write_text(json.dumps(result_json(each.trial.id)))
        board = Counted(planned, root, Console(file=io.StringIO()), live=False)
        before, began = time.process_time(), time.perf_counter()
        retries = Retries(root, board, Stop())
        with mock.patch("harness.executors.inline.run_attempt", return_value=ended):
            for each in planned:
                _Child(each, root, board, Stop(), retries, exclusive=False).run(Processes())
        busy, wall = time.process_time() - before, time.perf_counter() - began
    return busy / count, wall / count, sizes[-1] - sizes[len(sizes) // 10]


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def command(arguments: Sequence[str], env: dict[str, str]) -> tuple[float, float]:
    """Processor and wall seconds of a command."""
    before, began = _children_s(), time.perf_counter()
    done = subprocess.run(
        [*_HARNESS, *arguments], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return _children_s() - before, time.perf_counter() - began


def grid(folder: Path, count: int, repeats: int) -> Iterator[tuple[str, list[float], list[float]]]:
    """Processor and wall seconds of the commands on a grid."""
    steps = ", ".join(f"{{name: euler, steps: {k}}}" for k in range(1, 11))
    suite, root = folder / "grid.yaml", folder / "runs"
    suite.write_text(_SUITE.format(seeds=list(range(count // 10)), solvers=steps))
    env = environment(folder / "site") | {"HARNESS_ROOT": str(root)}
    env.pop("MLFLOW_TRACKING_URI", None)

    def measured(*arguments: str) -> tuple[list[float], list[float]]:
        both = [command([*arguments[:1], str(suite), *arguments[1:]], env) for _ in range(repeats)]
        return [cpu for cpu, _ in both], [wall for _, wall in both]

    yield ("plan, nothing finished", *measured("plan"))
    os.environ.update({name: env[name] for name in ("PYTHONPATH", "FAKE_BEHAVIOUR")})
    sys.path[:0] = env["PYTHONPATH"].split(os.pathsep)
    for planned in plan(suite, root).trials:
        made = TrialFolder(root, planned.trial.id)
        made.write_spec(planned.trial, planned.resources, "grid")
        made.result.write_text(json.dumps(result_json(planned.trial.id)))
    yield ("plan, all finished", *measured("plan"))
    yield ("status", *measured("status"))
    # Without the report, which bench_report.py times.
    yield ("run, all finished", *measured("run", "--executor", "inline", "--no-report"))


def _row(name: str, values: Sequence[float], unit: str, wall: str = "") -> str:
    spread = f"{min(values):.3g} to {max(values):.3g}"
    return f"| {name} | {median(values):.3g} {unit} | {spread} | {len(values)} | {wall} |"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--grid", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backend", nargs="*", default=["torch", "jax"])
    given = parser.parse_args()
    print("| what | processor time | spread | n | clock |\n|---|--:|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for backend, fresh in itertools.product(given.backend, (True, False)):
            kind = "fresh" if fresh else "forked"
            trials = toys(backend, given.trials + 1)
            costs = trial_costs(trials, folder / f"{backend}-{kind}", fresh)
            print(_row(f"{backend}, {kind} process", costs, "s a trial"), flush=True)
        if given.grid:
            busy, wall, more = scheduled(given.grid)
            print(_row("scheduling", [busy], "s a trial", f"{1 / wall:.0f} trials/s"))
            print(f"| memory that scheduling takes | {more:.1f} MiB | | 1 | |", flush=True)
            for what, cpu, clock in grid(folder, given.grid, given.repeats):
                print(_row(what, cpu, "s", f"{median(clock):.3g} s"), flush=True)


if __name__ == "__main__":
    main()
