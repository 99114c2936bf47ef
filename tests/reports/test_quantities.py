"""Quantities: their names, units and columns come from the definitions of the metrics."""

from __future__ import annotations

import pytest
from harness_reports.published.values import METRICS
from harness_reports.trials.entries import OPTIONAL
from harness_reports.trials.quantities import ELBO, NAMES, NLL, Quantity


def test_every_short_name_is_that_of_a_metric() -> None:
    assert set(NAMES) <= set(METRICS)


def test_bits_keep_their_baseline() -> None:
    bits = NLL.in_bits()
    assert (bits.column, bits.unit) == ("metrics.test_bits_per_dim", "bits/dim")
    assert bits.baseline_column == "metrics.gaussian_bits_per_dim"
    assert (NLL.column, NLL.baseline_column) == ("metrics.test_nll", "metrics.gaussian_nll")
    assert (ELBO.baseline_column, ELBO.in_bits().baseline_column) == (None, None)


@pytest.mark.parametrize(
    ("quantity", "words"),
    [
        (NLL, ("test NLL", "nats", "↓")),
        (NLL.in_bits(), ("test bits/dim", "", "↓")),
        (ELBO.in_bits(), ("negative ELBO", "bits/dim", "↓")),
        (Quantity(METRICS["cov_l2_recon"]), ("COV-L2", "%", "↑")),
        (Quantity(METRICS["parameters"]), ("parameters", "count", "")),
    ],
)
def test_a_unit_that_the_name_has_is_not_repeated(
    quantity: Quantity, words: tuple[str, str, str]
) -> None:
    assert (quantity.name, quantity.further_unit, quantity.arrow) == words


def test_curves_are_named_after_the_test() -> None:
    assert (NLL.curve, NLL.curve_name) == ("nll", "NLL")
    assert (ELBO.curve, ELBO.curve_name) == ("neg_elbo", "negative ELBO")


def test_settings_that_may_differ_are_all_axes_but_those_every_table_has() -> None:
    words = "model training evaluation objective gradient engine precision"
    assert tuple(words.split()) == OPTIONAL
