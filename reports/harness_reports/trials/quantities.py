"""The quantities that a report compares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness_reports.trials.entries import Entry, is_autoencoder

__all__ = ["Quantity", "quantity_of"]


@dataclass(frozen=True)
class Quantity:
    """What a dataset's trials are judged by; lower is better.

    Arguments:
        name: In words.
        unit: Its unit.
        column: Column of the frame.
        gaussian: Column of the Gaussian baseline on the same rows; None if there is none.
    """

    name: str
    unit: str
    column: str
    gaussian: str | None = None


NLL = Quantity("test NLL", "nats", "metrics.test_nll", "metrics.gaussian_nll")


BITS = Quantity(
    "test bits/dim",
    "bits/dim",
    "metrics.test_bits_per_dim",
    "metrics.gaussian_bits_per_dim",
)


ELBO = Quantity("negative ELBO", "nats", "metrics.test_neg_elbo")


ELBO_BITS = Quantity("negative ELBO", "bits/dim", "metrics.test_neg_elbo_bits_per_dim")


def quantity_of(entries: Iterable[Entry]) -> Quantity:
    """Bits/dim where a trial of the dataset has them, else nats; of autoencoders, the ELBO."""
    members = tuple(entries)
    nats, bits = (ELBO, ELBO_BITS) if is_autoencoder(members) else (NLL, BITS)
    return bits if any(entry.number(bits.column) is not None for entry in members) else nats
