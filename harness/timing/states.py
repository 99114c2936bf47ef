"""Where the timing of a setting stands, on the kind of hardware that this machine is."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from harness.planning.settings import Setting
from harness.process.cores import usable_cores
from harness.process.environment import hardware_fingerprint
from harness.process.memory import gpu_name
from harness.records.timings import TimingFolder

__all__ = ["TimingState", "hardware_of", "timing_state"]

TimingState = Literal[
    "timed", "failed", "not timed", "to time", "waiting for trials", "no GPU here"
]
"""`not timed` is what the budget of a run did not reach; that and `failed` wait for a request."""

_STATES: Mapping[str, TimingState] = {"ok": "timed", "error": "failed", "not_timed": "not timed"}


def timing_state(setting: Setting, root: Path) -> TimingState:
    """Where the timing of a setting on this machine stands.

    Raises:
        RecordError: A record is damaged.
    """
    hardware = hardware_of(setting)
    if hardware is None:
        return "no GPU here"
    record = TimingFolder(root, setting.id, hardware).read()
    if record is not None:
        return _STATES[record.status]
    return "to time" if setting.contenders(root) else "waiting for trials"


def hardware_of(setting: Setting) -> str | None:
    """The hardware fingerprint with which this machine times a setting; None if it cannot."""
    resources = setting.members[0].resources
    gpu = _gpu() if resources.gpus else None
    if resources.gpus and gpu is None:
        return None
    return _fingerprint(min(resources.cpus, len(usable_cores())), gpu)


_gpu = functools.cache(gpu_name)
_fingerprint = functools.cache(hardware_fingerprint)
