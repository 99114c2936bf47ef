"""One trial from start to committed record.

    python -m harness.training spec.json

needs numpy, safetensors and the trial's framework, nothing else. This module imports only the
standard library until the process is pinned to its cores, because numpy and the frameworks read
thread settings when they are imported.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from harness.errors import HarnessError
from harness.pinning import lease, pin
from harness.records import Status, TrialFolder, read_spec
from harness.terms import Resources
from harness.trial import Trial
from harness.watch import Progress, Watch

if TYPE_CHECKING:
    from harness.interface import Backend
    from harness.trainer import Cadence

__all__ = ["OUT_OF_MEMORY_EXIT", "main", "new_attempt_id", "run_trial"]

OUT_OF_MEMORY_EXIT = 75
"""Exit code of a process whose trial ran out of memory and may be tried again."""


def new_attempt_id() -> str:
    """An id that no other attempt has, on any machine."""
    return uuid.uuid4().hex[:12]


def run_trial(
    trial: Trial,
    root: Path,
    resources: Resources,
    *,
    progress: Callable[[Progress], None] | None = None,
    backend: Backend | None = None,
    attempt_id: str | None = None,
    cadence: Cadence | None = None,
    capture: bool = False,
    exclusive: bool = False,
    may_retry: bool = False,
    parent: int | None = None,
) -> Status:
    """Runs a trial in this process, which is pinned to the trial's cores for good.

    A trial with a committed result is left alone. One with a checkpoint goes on from it.

    Arguments:
        trial: The trial.
        root: The run root.
        resources: Cores, GPUs and time limit.
        progress: Told how far the trial is.
        backend: Who computes it; None means the registered backend of the trial's name.
        attempt_id: Names the attempt's folder; None makes one up.
        cadence: When lines and checkpoints are written.
        capture: Send what the process prints to the attempt's log.txt.
        exclusive: Run while no other trial runs on this machine.
        may_retry: Commit nothing if memory runs out, since the trial will be tried again.
        parent: Process id of whoever waits for the trial; it stops when that process is dead.

    Returns:
        The status that is committed; `OUT_OF_MEMORY` is not if `may_retry`.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM arrived; the state is in the checkpoint.
    """
    folder = TrialFolder(root, trial.id)
    committed = folder.read_result()
    if committed is not None:
        return Status(committed["status"])
    earlier = folder.attempts()
    attempt = folder.attempt(attempt_id or new_attempt_id())
    attempt.mkdir(parents=True)
    if not folder.spec.exists():
        folder.write_spec(trial, resources)
    with (
        _captured(attempt / "log.txt" if capture else None),
        lease(resources.cpus, exclusive=exclusive) as held,
    ):
        pin(held.cores, "gpu" if resources.gpus else "cpu")
        # Only now: this imports numpy.
        from harness.attempt import Attempt

        watch = Watch(attempt, resources.timeout_minutes * 60, progress, parent)
        run = Attempt(trial, folder, attempt, resources, watch, held, capture)
        with watch.signals():
            status, message = run.execute(backend, earlier, cadence)
        if status is None:
            raise KeyboardInterrupt
        if status is Status.OUT_OF_MEMORY and may_retry:
            return status
        folder.commit_result(run.result(status, message))
    found = folder.read_result()
    return Status(found["status"]) if found else status


@contextmanager
def _captured(path: Path | None) -> Iterator[None]:
    """Sends file descriptors 1 and 2 to a file, so that libraries' output lands there as well."""
    if path is None:
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(path, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(kept, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)


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
