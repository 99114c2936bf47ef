"""What a Ray worker does: one trial after the other, each in a process of its own.

Kept apart from the driver's side, so that a worker imports nothing else.
"""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["answer", "run_one"]


def answer(asked: dict[str, Any], hidden: str) -> list[str]:
    """What this node lacks, see `harness.executors.nodes.lacking`; `hidden` as in `run_one`."""
    _hide(hidden)
    from harness.executors.nodes import lacking

    return lacking(asked)


def run_one(order: dict[str, Any], hidden: str) -> tuple[str, str]:
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
    _hide(hidden)
    from harness.executors.attempts import run_attempt
    from harness.executors.observer import Stop
    from harness.executors.processes import Order, kept_processes

    with Stop() as stop:
        ended = run_attempt(kept_processes(), Order(**order), stop)
    return ended.cause.name, ended.detail


def _hide(folder: str) -> None:
    sys.path[:] = [place for place in sys.path if folder not in (place, os.path.abspath(place))]
