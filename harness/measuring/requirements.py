"""What measuring a model needs, asked before the training that leads to it."""

from __future__ import annotations

from importlib import metadata

import numpy as np

from harness.datasets.base import SPLITS, Dataset
from harness.datasets.images import ImageDataset
from harness.errors import DataError, MetricError
from harness.metrics.paddingflow import protocol_cost
from harness.trial import Trial

__all__ = ["require_measurable", "require_representable"]

_LOOKED_AT = 10_000

_LIBRARIES = {
    "sample_metrics": ("POT", "scipy", "scikit-learn"),
    "image_metrics": ("scikit-learn",),
}


def require_representable(trial: Trial, dataset: Dataset) -> None:
    """Raises before a training whose data are infinite in its precision: it would seem to diverge.

    The first rows of each split are looked at.

    Arguments:
        trial: The trial.
        dataset: Its data.

    Raises:
        DataError: A value is larger than the precision of the trial can hold.
    """
    if trial.dtype == "float64" or isinstance(dataset, ImageDataset):
        return  # float64 holds whatever was read, and encoded pixels are bounded
    most = float(np.finfo(trial.dtype).max)
    for split in SPLITS:
        for chunk in dataset.chunks(split, limit=_LOOKED_AT):
            largest = float(np.abs(chunk.x).max(initial=0.0))
            if largest > most:
                raise DataError(
                    f"dataset '{dataset.info.name}' has values up to {largest:.2g}, beyond the "
                    f"range of {trial.dtype} ({most:.2g}); scale them, or write precision: float64"
                )


def require_measurable(trial: Trial, dataset: Dataset, at_hand: int | None) -> None:
    """Raises before a training whose samples could not be measured.

    Arguments:
        trial: The trial.
        dataset: Its data.
        at_hand: Bytes of host memory it may count on; None if that is not known.

    Raises:
        MetricError: A library is missing, the data are no table, or memory does not suffice.
    """
    for name, packages in _LIBRARIES.items():
        for package in packages if getattr(trial.evaluation, name) else ():
            try:
                metadata.distribution(package)
            except metadata.PackageNotFoundError:
                raise MetricError(
                    f"'{name}' needs {package}, which is not installed. "
                    "Run: pip install 'cnf-harness[metrics]'"
                ) from None
    wanted, shape = trial.evaluation.sample_metrics, dataset.info.event_shape
    if wanted is None:
        return
    if len(shape) != 1:
        raise MetricError(
            f"'sample_metrics' compares rows of numbers; an example of '{dataset.info.name}' has "
            f"the shape {list(shape)}. Remove it from the evaluation"
        )
    needed = protocol_cost(wanted, shape[0], dataset.sizes()["test"]).bytes
    if at_hand is not None and needed > at_hand:
        raise MetricError(
            f"the sample metrics would take {needed / 1e9:,.1f} GB of host memory, and "
            f"{at_hand / 1e9:,.1f} GB are at hand. Lower exact_emd_rows, or give the trial more "
            "cores of the machine"
        )
