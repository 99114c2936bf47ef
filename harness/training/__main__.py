"""`python -m harness.training spec.json`: one trial alone, without Ray, MLflow or pydantic."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from harness.errors import HarnessError, RecordError, sentence_of
from harness.process.home import settle_home
from harness.process.orphan import die_with_parent, end_with
from harness.process.watch import Progress
from harness.records.folder import DEFAULT_ROOT, TrialFolder
from harness.records.readers import read_spec
from harness.records.status import Status
from harness.training.run_trial import INTERRUPTED_EXIT, OUT_OF_MEMORY_EXIT, RunOptions, run_trial
from harness.trial import SEMANTICS_VERSION, Trial

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
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
    # What an executor says to a process of its own.
    parser.add_argument("--attempt", help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--abrupt", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--may-retry", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the trial of a spec.json; returns 0 if it ended ok, 1 if not, 130 if interrupted."""
    given = _parser().parse_args(arguments)
    if given.parent is not None:
        end_with(given.parent)
    if given.abrupt:
        die_with_parent()
    try:
        settle_home()
        trial, resources = read_spec(given.spec)
        _require_this_version(given.spec, trial)
        root = given.root or _root_of(given.spec, trial)
        folder = TrialFolder(root, trial.id)
        if given.rerun:
            # Only who sets aside needs it; little is imported before the cores are pinned.
            from harness.records.trained import begin_anew

            begin_anew(folder, trial)
        # The trial's own output goes to its log; this stays the terminal.
        with os.fdopen(os.dup(1), "w", encoding="utf-8") as terminal:
            options = RunOptions(
                progress=None if given.quiet else _PrintedProgress(terminal),
                attempt_id=given.attempt,
                capture=True,
                exclusive=given.exclusive,
                may_retry=given.may_retry,
                parent=given.parent,
            )
            status = run_trial(trial, root, resources, options)
            result = folder.read_result()
            if not given.quiet and result:
                _print_result(result, terminal)
    except HarnessError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(sentence_of(error, error.filename or given.spec), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT
    if status is Status.OUT_OF_MEMORY and given.may_retry:
        return OUT_OF_MEMORY_EXIT
    return 0 if status is Status.OK else 1


def _require_this_version(path: Path, trial: Trial) -> None:
    if trial.semantics_version != SEMANTICS_VERSION:
        raise RecordError(
            f"{path}: a trial of semantics version {trial.semantics_version}; this harness "
            f"computes version {SEMANTICS_VERSION}, whose numbers differ (CHANGELOG, 'Changes "
            "results'). Run its suite: 'harness run' plans the trial anew"
        )


def _root_of(spec: Path, trial: Trial) -> Path:
    """The run root that holds the spec; where it lies elsewhere, the default root."""
    parts = spec.resolve().parts
    if parts[-3:] == ("trials", trial.id, "spec.json"):
        return spec.resolve().parents[2]
    return Path(os.environ.get("HARNESS_ROOT", DEFAULT_ROOT))


class _PrintedProgress:
    """Prints progress, a line every few seconds."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._phase, self._due = "", 0.0

    def __call__(self, progress: Progress) -> None:
        at = time.perf_counter()
        if progress.phase == self._phase and at < self._due:
            return
        self._phase, self._due = progress.phase, at + 5.0
        loss = "" if progress.loss is None else f"  loss {progress.loss:.4f}"
        text = f"{progress.phase}  step {progress.step}/{progress.iterations}{loss}"
        print(text, file=self._terminal, flush=True)


def _print_result(result: Mapping[str, Any], terminal: TextIO) -> None:
    message, metrics = result.get("message"), result.get("metrics") or {}
    numbers = [
        f"{name} {metric['value']:.6g} {metric.get('unit') or ''}".rstrip()
        for name, metric in metrics.items()
        if metric is not None and metric["value"] is not None
    ]
    words = [result["status"], *([message] if message else []), *numbers]
    print("\n  ".join(words), file=terminal, flush=True)


if __name__ == "__main__":
    sys.exit(main())
