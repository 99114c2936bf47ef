"""Flags that end the process of a framework, found out before any trial meets them."""

from __future__ import annotations

import os
import subprocess
import sys

from harness.backends import get_backend
from harness.errors import InputError, Problem
from harness.planning.plan import Plan

__all__ = ["require_accepted_flags"]

_NAME = "XLA_FLAGS"
_PROBE = "import jax; jax.devices()"
_TIMEOUT_S = 120.0


def require_accepted_flags(plan: Plan) -> None:
    """Raises InputError if XLA refuses XLA_FLAGS: it ends the process that has them.

    Arguments:
        plan: Nothing is asked unless a trial that waits computes with jax and the variable is set.
    """
    flags = os.environ.get(_NAME)
    waiting = {planned.trial.backend for planned in plan.trials if planned.is_waiting}
    if not flags or not any("jax" in get_backend(name).framework for name in waiting):
        return
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROBE],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if _NAME in line]
    if done.returncode and said:
        message = f"'{flags}' is refused by XLA: {said[-1].strip()}"
        raise InputError([Problem(_NAME, message, fix=f"correct it, or unset {_NAME}")])
