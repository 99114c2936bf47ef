"""Runs all trials whose specs lie under a run root, as `harness run` would those of a suite.

python run_plan.py ROOT [options]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.commands.outcome import outcome
from harness.commands.run import INTERRUPTED
from harness.executors import retries
from harness.executors.run import Execution, run
from harness.planning.plan import Plan, PlannedTrial
from harness.records.folder import TrialFolder
from harness.records.readers import read_spec


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--executor", default="ray")
    parser.add_argument("--address")
    parser.add_argument("--cpus", type=int)
    parser.add_argument("--exclusive", action="store_true")
    parser.add_argument("--rerun", action="store_true")
    parser.add_argument("--grace", type=float, default=30.0)
    given = parser.parse_args()
    retries.GRACE_S = given.grace
    planned = []
    for path in sorted(given.root.glob("trials/*/spec.json")):
        trial, resources = read_spec(path)
        done = not given.rerun and TrialFolder(given.root, trial.id).read_result() is not None
        planned.append(PlannedTrial(trial, "finished" if done else "to_run", None, resources))
    plan = Plan("fakes", "", tuple(planned))
    how = Execution(given.executor, given.address, given.cpus, given.exclusive)
    ended = run(plan, given.root, how)
    return outcome(plan, given.root).exit_code if ended else INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
