"""What a Ray worker does: one trial after the other, each in a process of its own.

Kept apart from the driver's side, so that a worker imports nothing else.
"""

from __future__ import annotations

import os
import sys

__all__ = ["run_one"]


def run_one(order: dict[str, str | int | float | bool], hidden: str) -> tuple[str, str]:
    """Runs an attempt.

    It is sent by value, since Ray puts the working directory of the driver before the installed
    packages: a folder `harness/` or `jax/` in it would be imported in their place.

    Arguments:
        order: The fields of `harness.executors.processes.Order`; its files are on a file system
            that all nodes share.
        hidden: A folder that is no place of modules; empty for none.

    Returns:
        How the process ended: name of the cause, detail.
    """
    sys.path[:] = [place for place in sys.path if hidden not in (place, os.path.abspath(place))]
    from harness.executors.attempts import run_attempt
    from harness.executors.observer import Stop
    from harness.executors.processes import Order, kept_processes

    with Stop() as stop:
        ended = run_attempt(kept_processes(), Order(**order), stop)  # type: ignore[arg-type]
    return ended.cause.name, ended.detail
