"""Runs the trials of a plan with one of the executors; keeps the MLflow mirror up to date."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, InputError, Problem
from harness.executors.board import Board
from harness.executors.flags import require_accepted_flags
from harness.executors.observer import Stop
from harness.planning.plan import Plan, PlannedTrial
from harness.records.files import storing, sweep
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.records.trained import TrainedFolder, begin_anew

__all__ = ["EXECUTORS", "Execution", "run"]

EXECUTORS = ("ray", "inline")
_SYNC_EVERY_S = 60.0


@dataclass(frozen=True)
class Execution:
    """Who runs trials, and on what.

    Arguments:
        executor: `ray`, or `inline`: one trial after the other, a single one in this process.
        address: A Ray cluster to join; its nodes share the file system of the root.
        cpus: Cores of the local cluster; None means all.
        exclusive: One trial at a time on each machine, so that timings may be compared.
        mirror: Export results to MLflow.
    """

    executor: str = "ray"
    address: str | None = None
    cpus: int | None = None
    exclusive: bool = False
    mirror: bool = True


def run(plan: Plan, root: Path, how: Execution) -> bool:
    """Runs every trial of a plan that is to run.

    Returns:
        False if it was interrupted. How the trials ended is in their records.

    Raises:
        InputError: The executor is unknown or does not take the options, or XLA refuses XLA_FLAGS.
        StorageError: The run root cannot be written.
        HarnessError: The executor cannot start.
    """
    _require_known(how)
    require_accepted_flags(plan)
    root = root.resolve()
    # One seed of everything first: the whole grid is seen early, and trials that differ only in
    # the seed do not compile the same program at the same time.
    to_run = [planned for planned in plan.trials if planned.is_waiting]
    trials = sorted(to_run, key=lambda planned: planned.trial.seed)
    _prepare(root, trials, plan.suite)
    with (
        Stop() as stop,
        Board(trials, root, live=None if len(trials) > 1 else False) as board,
        # Exporting takes a core for a moment, which an exclusive trial must not share.
        _exporting(root, plan, board, during=not how.exclusive) if how.mirror else nullcontext(),
    ):
        if trials and how.executor == "ray":
            from harness.executors.ray import run_ray

            run_ray(
                trials,
                root,
                board,
                stop,
                address=how.address,
                cpus=how.cpus,
                exclusive=how.exclusive,
            )
        elif trials:
            from harness.executors.inline import run_inline

            run_inline(trials, root, board, stop, exclusive=how.exclusive)
    return not stop.requested


def _require_known(how: Execution) -> None:
    if how.executor not in EXECUTORS:
        message = f"unknown executor '{how.executor}'"
        raise InputError([Problem("--executor", message, known=EXECUTORS, found=how.executor)])
    if how.executor != "ray" and how.address is not None:
        raise InputError([Problem("--address", f"the {how.executor} executor joins no cluster")])


def _prepare(root: Path, trials: Sequence[PlannedTrial], suite: str) -> None:
    """Writes the specs and makes room for new results.

    A trial that ended for good begins anew; one that was killed or timed out has a checkpoint.
    """
    with storing(root):
        root.mkdir(parents=True, exist_ok=True)
    for planned in trials:
        folder = TrialFolder(root, planned.trial.id)
        trained = TrainedFolder(root, planned.trial.training_id)
        for path in (folder.path, trained.path):
            sweep(path)
        folder.write_spec(planned.trial, planned.resources, suite)
        result = folder.read_result()
        if result is None:
            continue
        if Status(result["status"]).is_final:
            begin_anew(folder, planned.trial)
        else:
            folder.set_aside(attempts=False)


@contextmanager
def _exporting(root: Path, plan: Plan, board: Board, during: bool) -> Iterator[None]:
    """Exports results to MLflow while trials run and once more when they have ended."""
    done = threading.Event()
    wanted, seen = [planned.trial.id for planned in plan.wanted], set[str]()

    def export() -> None:
        while not done.wait(_SYNC_EVERY_S):
            new = [i for i in wanted if i not in seen and TrialFolder(root, i).result.exists()]
            if new and not _export(root, new, board):
                # Said once; the last export tries again.
                return
            seen.update(new)

    thread = threading.Thread(target=export, daemon=True)
    if during:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if during:
            thread.join()
        _export(root, wanted, board)


def _export(root: Path, trial_ids: Sequence[str], board: Board) -> bool:
    """Exports; returns False, after a line on the board, if the mirror is out of reach."""
    from harness.records.mlflow import sync

    try:
        sync(root, trial_ids=trial_ids, say=board.note)
    except HarnessError as error:
        board.note(f"not exported: {error}")
        return False
    return True
