"""Arrays for pictures: samples of the model, and its density where data are 2-D."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.datasets.base import Rows
from harness.interface import Arrays
from harness.measuring.evaluator import Evaluator, NoiseKey, Scoring, SolveFailed
from harness.measuring.measurements import Measurements
from harness.measuring.tally import Tally
from harness.records.arrays import pack
from harness.records.files import replace

__all__ = ["write_pictures"]

GRID = 100
"""Points a side of the density picture."""
_MARGIN = 0.1


def write_pictures(
    measured: Measurements, evaluator: Evaluator, test: Sequence[Rows], attempt: Path
) -> None:
    """Writes samples.safetensors to an attempt; a solve that fails is a note, not a failure.

    Arguments:
        measured: Receives the evaluations and the note.
        evaluator: The model and its data.
        test: The test rows, whose box the density is drawn over.
        attempt: Folder of the attempt.
    """
    trial, dataset = evaluator.trial, evaluator.dataset
    arrays: Arrays = {}
    try:
        if trial.evaluation.samples:
            samples, forward = evaluator.sample(trial.evaluation.samples)
            measured.nfe["sample"] = {"forward": Tally.of(forward).summary()}
            arrays["samples"] = dataset.to_data(samples).astype(np.float32)
        if dataset.info.event_shape == (2,):
            arrays |= _density_grid(evaluator, test)
    except SolveFailed as error:
        measured.notes["pictures"] = str(error)
    if arrays:
        shape = json.dumps(dataset.image_shape)
        replace(attempt / "samples.safetensors", pack(arrays, {"image_shape": shape}))


def _density_grid(evaluator: Evaluator, test: Sequence[Rows]) -> Arrays:
    """Log-density of 2-D data on a grid over the box of its test rows, exact trace.

    Returns:
        `grid_axis_x`, `grid_axis_y` [g] and `grid_log_prob` [g, g] (rows are y) in data space.
    """
    x = np.concatenate([rows.x for rows in test])
    low, high = x.min(axis=0), x.max(axis=0)
    margin = _MARGIN * (high - low)
    axes = [np.linspace(a, b, GRID) for a, b in zip(low - margin, high + margin, strict=True)]
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    size = evaluator.trial.evaluation.batch
    exact = Scoring.of(evaluator.trial, "test")._replace(trace="exact")
    parts = [
        evaluator.log_likelihood(points[start : start + size], NoiseKey("grid"), exact)[0]
        for start in range(0, len(points), size)
    ]
    # Preprocessing of 2-D data is a shift and a scale per axis, so axes map to axes.
    data_axes = evaluator.dataset.to_data(np.stack(axes, axis=-1))
    stretch = (data_axes[-1] - data_axes[0]) / [axis[-1] - axis[0] for axis in axes]
    log_prob = np.concatenate(parts) - float(np.sum(np.log(np.abs(stretch))))
    return {
        "grid_axis_x": data_axes[:, 0].astype(np.float32),
        "grid_axis_y": data_axes[:, 1].astype(np.float32),
        "grid_log_prob": log_prob.reshape(GRID, GRID).astype(np.float32),
    }
