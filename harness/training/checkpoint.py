"""Checkpoints: everything exact resume needs, in one file that is whole or absent."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.interface import Arrays
from harness.records.arrays import DAMAGE, seal, unseal
from harness.records.files import dumps, replace, storing
from harness.training.totals import Totals

__all__ = ["NAME", "Checkpoint", "newest"]

VERSION = 2
NAME = "checkpoint/checkpoint.safetensors"
"""Where it lies in the folder of an attempt."""


@dataclass
class Checkpoint:
    """A trial after some whole number of training steps.

    Arguments:
        arrays: Trainable arrays and buffers.
        state: What `Model.state` returned.
        best: Arrays of the best validation; empty if none is kept.
        totals: Counts, times and validation results.
        fingerprint: Numerics fingerprint of the attempt that wrote it.
        bitwise: False if an attempt before went on under another fingerprint.
    """

    arrays: Arrays
    state: Arrays
    best: Arrays
    totals: Totals
    fingerprint: str
    bitwise: bool = True

    def goes_on_bitwise(self, fingerprint: str) -> bool:
        """True if what goes on under a numerics fingerprint ends as if it had never stopped."""
        return self.bitwise and self.fingerprint == fingerprint

    def write(self, attempt: Path) -> None:
        """Writes the checkpoint of an attempt over its previous one."""
        path = attempt / NAME
        with storing(path):
            path.parent.mkdir(exist_ok=True)
        groups = {"arrays": self.arrays, "state": self.state, "best": self.best}
        tensors = {f"{group}/{name}": a for group, d in groups.items() for name, a in d.items()}
        tensors["trainer/step_s"] = np.array(self.totals.step_s, dtype=np.float64)
        trainer = {
            "version": VERSION,
            "totals": self.totals.to_json(),
            "fingerprint": self.fingerprint,
            "bitwise": self.bitwise,
        }
        replace(path, seal(tensors, {"trainer": dumps(trainer).decode()}))

    @staticmethod
    def read(attempt: Path) -> Checkpoint | None:
        """Reads the checkpoint of an attempt; None if it has no valid one."""
        groups: dict[str, Arrays] = {"arrays": {}, "state": {}, "best": {}, "trainer": {}}
        try:
            tensors, metadata = unseal(attempt / NAME)
            trainer = json.loads(metadata["trainer"])
            for key, array in tensors.items():
                group, _, name = key.partition("/")
                groups[group][name] = array
            if trainer["version"] != VERSION:
                return None
            totals = Totals.from_json(trainer["totals"], groups["trainer"]["step_s"])
        except DAMAGE:
            # Absent or damaged; an older checkpoint, or the beginning, will do.
            return None
        return Checkpoint(
            groups["arrays"],
            groups["state"],
            groups["best"],
            totals,
            str(trainer["fingerprint"]),
            bool(trainer["bitwise"]),
        )


def newest(attempts: Iterable[Path]) -> tuple[Path, Checkpoint] | None:
    """Returns the attempt whose valid checkpoint has come furthest, and that checkpoint."""
    best: tuple[Path, Checkpoint] | None = None
    for attempt in attempts:
        checkpoint = Checkpoint.read(attempt)
        if checkpoint is not None and (
            best is None or checkpoint.totals.step > best[1].totals.step
        ):
            best = attempt, checkpoint
    return best
