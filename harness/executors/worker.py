"""What a Ray worker does: one trial, in a process that has imported no framework before.

Kept apart from the driver's side, so that a worker imports nothing else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["STOPPED", "run_one"]

STOPPED = "stopped"


def run_one(
    spec: str, root: str, attempt_id: str, exclusive: bool, may_retry: bool, hidden: str
) -> str:
    """Runs the trial of a spec.json.

    It is sent by value, since Ray puts the working directory of the driver before the installed
    packages: a folder `harness/` or `jax/` in it would be imported in their place.

    Arguments:
        spec: Path of spec.json, on a file system that all nodes share.
        root: The run root, on the same file system.
        attempt_id: Name of the attempt.
        exclusive: Run while no other trial runs on this node.
        may_retry: Commit nothing if memory runs out.
        hidden: A folder that is no place of modules; empty for none.

    Returns:
        The status, or `STOPPED`.
    """
    sys.path[:] = [place for place in sys.path if hidden not in (place, os.path.abspath(place))]
    from harness.records.readers import read_spec
    from harness.training.run_trial import RunOptions, run_trial

    trial, resources = read_spec(Path(spec))
    options = RunOptions(
        attempt_id=attempt_id, capture=True, exclusive=exclusive, may_retry=may_retry
    )
    try:
        status = run_trial(trial, Path(root), resources, options)
    except KeyboardInterrupt:
        return STOPPED
    return status.value
