"""The quantities of a report: what tables call a metric, and what a dataset is judged by."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.datasets.registry import declare
from harness.errors import HarnessError
from harness.metrics.bits import bits_name
from harness.metrics.definitions import DEFINITIONS, Better, Definition
from harness.records.columns import metric_column
from harness_reports.trials.entries import Entry, is_autoencoder

__all__ = ["ELBO", "NAMES", "NLL", "Quantity", "likelihood_of", "quantity_of"]

_SPLIT = "test_"

NAMES: Mapping[str, str] = {
    "test_nll": "test NLL",
    "test_bits_per_dim": "test bits/dim",
    "gaussian_nll": "test NLL",
    "test_neg_elbo": "negative ELBO",
    "test_neg_elbo_bits_per_dim": "negative ELBO",
    "cd": "CD",
    "min_cd": "least CD",
    "emd_3d_reading_approximate": "EMD in 3-D",
    "min_emd_3d_reading_approximate": "least EMD in 3-D",
    "mmd_l2_recon": "MMD-L2",
    "cov_l2_recon": "COV-L2",
}
"""Short names of metrics; any other metric is printed by its name in the records."""

_ARROWS: Mapping[Better, str] = {"lower": "↓", "higher": "↑", "neither": ""}


@dataclass(frozen=True)
class Quantity:
    """A metric as tables and charts print it.

    Arguments:
        metric: What it is.
        baseline: The same of a Gaussian on the same rows; None if there is none.
    """

    metric: Definition
    baseline: Definition | None = None

    @property
    def name(self) -> str:
        """Its name in a heading."""
        return NAMES.get(self.metric.name, self.metric.name)

    @property
    def unit(self) -> str:
        """Its unit."""
        return self.metric.unit

    @property
    def further_unit(self) -> str:
        """Its unit; empty where the name has it already, as in `test bits/dim`."""
        return "" if self.unit in self.name else self.unit

    @property
    def arrow(self) -> str:
        """Which way is better, as an arrow; empty if neither is."""
        return _ARROWS[self.metric.better]

    @property
    def column(self) -> str:
        """Its column of the frame."""
        return metric_column(self.metric.name)

    @property
    def baseline_column(self) -> str | None:
        """The Gaussian's column of the frame."""
        return metric_column(self.baseline.name) if self.baseline else None

    @property
    def curve(self) -> str:
        """Its name in the curves: `nll` on training batches, `val_nll` on the validation split."""
        return self.metric.name.removeprefix(_SPLIT)

    @property
    def curve_name(self) -> str:
        """Its name in a heading without the split, as in `NLL`."""
        return self.name.removeprefix(_SPLIT.replace("_", " "))

    def in_bits(self) -> Quantity:
        """The same in bits per dimension."""
        baseline = self.baseline and DEFINITIONS[bits_name(self.baseline.name)]
        return Quantity(DEFINITIONS[bits_name(self.metric.name)], baseline)


NLL = Quantity(DEFINITIONS["test_nll"], DEFINITIONS["gaussian_nll"])
ELBO = Quantity(DEFINITIONS["test_neg_elbo"])


def likelihood_of(entries: Iterable[Entry]) -> Quantity:
    """What training minimises, in nats: the NLL, or the negative ELBO of autoencoders."""
    return ELBO if is_autoencoder(entries) else NLL


def quantity_of(entries: Iterable[Entry]) -> Quantity:
    """What a dataset's trials are judged by: likelihood, in bits/dim where the dataset has them.

    The declaration of the dataset decides where no record does, so that a table has one unit
    before, while and after its trials run.
    """
    members = tuple(entries)
    nats = likelihood_of(members)
    bits = nats.in_bits()
    if any(entry.ok for entry in members):
        return bits if any(entry.number(bits.column) is not None for entry in members) else nats
    return bits if any(map(_declares_levels, _datasets(members))) else nats


def _datasets(entries: Iterable[Entry]) -> Iterable[str]:
    return dict.fromkeys(entry.planned.trial.dataset.name for entry in entries)


@functools.cache
def _declares_levels(dataset: str) -> bool:
    """True if a dataset declares images of more than two levels."""
    try:
        declaration = declare(dataset)
    except HarnessError:
        return False
    shape = declaration.event_shape
    return shape is not None and len(shape) == 3 and declaration.likelihood != "bernoulli"
