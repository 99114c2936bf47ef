"""Counts, times and validation results of a training so far; part of its checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.interface import StepReport
from harness.measuring.tally import Tally, quartiles

__all__ = ["NFE_KINDS", "Totals"]

NFE_KINDS = ("forward", "backward", "vjp", "recompute")
"""Evaluations of a training step that are counted apart (`harness.interface.Nfe`)."""


def _empty() -> dict[str, Tally]:
    return {kind: Tally() for kind in NFE_KINDS}


@dataclass
class Totals:
    """State of the training loop beside the arrays: exact resume and the record both need it.

    Arguments:
        step: Finished optimiser steps.
        nfe: Evaluations in training by kind, summed over blocks, a step each; a kind that the
            gradient mode does not have stays empty.
        window: `nfe` since the last line of metrics.jsonl.
        rejected: Rejected steps of all forward solves.
        step_s: Seconds of every training step but the first of each attempt, data excluded.
        first_step_s: Seconds of the first step of the first attempt.
        train_s: Seconds of all training steps.
        val_s: Seconds of all validations.
        elapsed_s: Seconds this state took to reach, redone work excluded.
        shared: Another trial ran on the machine at some time, or other processes disturbed it.
        peak_host_bytes: Largest resident size of a process of this trial.
        phase_bytes: Largest host memory by phase, above what was held before training.
        val_nll: Of the last validation (`harness.measuring.evaluator.Score.nll`).
        val_step: Its step; -1 before the first.
        best_val_nll: Of the best validation.
        best_step: Its step.
        stale: Validations without gain since then.
        lr_drops: Drops of the learning rate that patience has made.
        val_rows: Rows of a validation.
    """

    step: int = 0
    nfe: dict[str, Tally] = field(default_factory=_empty)
    window: dict[str, Tally] = field(default_factory=_empty)
    rejected: int = 0
    step_s: list[float] = field(default_factory=list)
    first_step_s: float | None = None
    train_s: float = 0.0
    val_s: float = 0.0
    elapsed_s: float = 0.0
    shared: bool = False
    peak_host_bytes: int = 0
    phase_bytes: dict[str, int] = field(default_factory=dict)
    val_nll: float | None = None
    val_step: int = -1
    best_val_nll: float | None = None
    best_step: int = -1
    stale: int = 0
    lr_drops: int = 0
    val_rows: int = 0

    def count(self, report: StepReport) -> None:
        """Takes in the evaluations of one training step."""
        for kind in NFE_KINDS:
            counts = getattr(report.nfe, kind)
            if counts:
                self.nfe[kind].add(sum(counts))
                self.window[kind].add(sum(counts))
        self.rejected += sum(report.nfe.rejected)

    def time_step(self, seconds: float, first: bool) -> None:
        """Takes in the duration of one training step; the first of an attempt is kept apart."""
        self.train_s += seconds
        if not first:
            self.step_s.append(seconds)
        elif self.first_step_s is None:
            self.first_step_s = seconds

    def open_window(self) -> None:
        """Begins the counts of the next line of metrics.jsonl."""
        self.window = _empty()

    def timing(self) -> dict[str, Any]:
        """Seconds as the record's `timing` has them; the steady steps as quartiles."""
        return {
            "first_step_s": self.first_step_s,
            "step_s": quartiles(self.step_s) if self.step_s else None,
            "train_s": self.train_s,
            "val_s": self.val_s,
        }

    def evaluations(self) -> dict[str, Any]:
        """Evaluations in training as the record's `nfe` has them."""
        train = {kind: tally.summary() for kind, tally in self.nfe.items()}
        return {"train": train, "train_rejected": self.rejected}

    def to_json(self) -> dict[str, Any]:
        """JSON values of everything but `step_s`."""
        values = asdict(self)
        del values["step_s"]
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any], step_s: Iterable[float]) -> Totals:
        """Restores what `to_json` returned.

        Raises:
            KeyError, TypeError: The values are of another version.
        """
        tallies = {
            name: {kind: Tally(**tally) for kind, tally in values[name].items()}
            for name in ("nfe", "window")
        }
        return Totals(**{**values, **tallies, "step_s": [float(s) for s in step_s]})
