"""`python -m harness.training spec.json`: one trial alone, without Ray, MLflow or pydantic."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from harness.errors import HarnessError
from harness.process.watch import Progress
from harness.records.folder import TrialFolder, read_spec
from harness.records.status import Status
from harness.training.run_trial import OUT_OF_MEMORY_EXIT, run_trial
from harness.trial import Trial

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the trial of a spec.json; returns 0 if it ended ok, 1 if not, 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.training",
        description="Run one trial, going on from its newest checkpoint if it has one.",
    )
    parser.add_argument("spec", type=Path, help="spec.json of the trial")
    parser.add_argument(
        "--root", type=Path, help="run root (default: the one that holds the spec)"
    )
    parser.add_argument("--rerun", action="store_true", help="set a finished result aside")
    parser.add_argument("--exclusive", action="store_true", help="run while no other trial does")
    for option in ("--attempt", "--parent", "--may-retry", "--quiet"):
        # What the executors say to a process of theirs.
        kind: dict[str, Any] = (
            {"type": int if option == "--parent" else str}
            if option in ("--attempt", "--parent")
            else {"action": "store_true"}
        )
        parser.add_argument(option, help=argparse.SUPPRESS, **kind)
    given = parser.parse_args(arguments)
    try:
        trial, resources = read_spec(given.spec)
        root = given.root or _root_of(given.spec, trial)
        folder = TrialFolder(root, trial.id)
        if given.rerun:
            folder.set_aside(attempts=True)
        # The trial's own output goes to its log; this stays the terminal.
        with os.fdopen(os.dup(1), "w", encoding="utf-8") as terminal:
            status = run_trial(
                trial,
                root,
                resources,
                progress=None if given.quiet else _Lines(terminal),
                attempt_id=given.attempt,
                capture=True,
                exclusive=given.exclusive,
                may_retry=given.may_retry,
                parent=given.parent,
            )
            result = folder.read_result()
            if not given.quiet and result:
                _print_result(result, terminal)
    except HarnessError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if status is Status.OUT_OF_MEMORY and given.may_retry:
        return OUT_OF_MEMORY_EXIT
    return 0 if status is Status.OK else 1


def _root_of(spec: Path, trial: Trial) -> Path:
    """The run root that holds the spec; where it lies elsewhere, the default root."""
    parts = spec.resolve().parts
    if parts[-3:] == ("trials", trial.id, "spec.json"):
        return spec.resolve().parents[2]
    return Path(os.environ.get("HARNESS_ROOT", "runs"))


class _Lines:
    """Prints progress, a line every few seconds."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._stage, self._due = "", 0.0

    def __call__(self, progress: Progress) -> None:
        at = time.perf_counter()
        if progress.stage == self._stage and at < self._due:
            return
        self._stage, self._due = progress.stage, at + 5.0
        loss = "" if progress.loss is None else f"  loss {progress.loss:.4f}"
        text = f"{progress.stage}  step {progress.step}/{progress.iterations}{loss}"
        print(text, file=self._terminal, flush=True)


def _print_result(result: Mapping[str, Any], terminal: TextIO) -> None:
    metrics = result["metrics"].items()
    numbers = [f"{name} {found['value']:.6g} {found['unit']}" for name, found in metrics]
    words = [result["status"], *([result["message"]] if result["message"] else []), *numbers]
    print("\n  ".join(words), file=terminal, flush=True)


if __name__ == "__main__":
    sys.exit(main())
