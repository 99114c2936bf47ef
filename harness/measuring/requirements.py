"""What measuring a model needs, asked before the training that leads to it."""

from __future__ import annotations

from importlib import metadata

from harness.datasets.base import Dataset
from harness.errors import MetricError
from harness.metrics.paddingflow import protocol_cost
from harness.trial import Trial

__all__ = ["require_measurable"]

_LIBRARIES = {
    "sample_metrics": ("POT", "scipy", "scikit-learn"),
    "image_metrics": ("scikit-learn",),
}


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
