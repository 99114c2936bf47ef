"""Every quantity of a trial by name: unit, which way is better, and what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy.typing as npt

from harness.metrics.chamfer import cd
from harness.metrics.coverage import cov_l2, mmd_l2
from harness.metrics.discrepancy import mmd_kernel
from harness.metrics.transport import emd, emd_3d_reading, emd_3d_reading_approximate

__all__ = ["DEFINITIONS", "IMAGE_METRICS", "RECORDED", "ROW_METRICS", "Better", "Definition"]

Better = Literal["lower", "higher", "neither"]
Metric = Callable[[npt.ArrayLike, npt.ArrayLike], float]

ROW_METRICS: Mapping[str, Metric] = {
    "cd": cd,
    "emd": emd,
    "emd_3d_reading": emd_3d_reading,
    "emd_3d_reading_approximate": emd_3d_reading_approximate,
    "mmd_kernel": mmd_kernel,
}
"""Metrics of samples against references, both [n, D]."""

IMAGE_METRICS: Mapping[str, Metric] = {"cov_l2": cov_l2, "mmd_l2": mmd_l2}
"""Metrics of images; recorded as `<name>_recon` on reconstructions, `<name>_prior` on draws."""


@dataclass(frozen=True)
class Definition:
    """What the name of a quantity means.

    Arguments:
        name: Its name.
        unit: Its unit.
        better: Which way is better.
        summary: One line.
        recorded: True if it stands under `metrics` of result.json; False if the training curves
            alone have it.
    """

    name: str
    unit: str
    better: Better
    summary: str
    recorded: bool = True


_ALL = (
    Definition("test_nll", "nats", "lower", "negative log-likelihood per test example"),
    Definition("val_nll", "nats", "lower", "negative log-likelihood per validation example"),
    Definition("train_nll", "nats", "lower", "negative log-likelihood per training example"),
    Definition("test_bits_per_dim", "bits/dim", "lower", "test_nll / (D ln 2)"),
    Definition("val_bits_per_dim", "bits/dim", "lower", "val_nll / (D ln 2)", recorded=False),
    Definition("gaussian_nll", "nats", "lower", "test_nll of a Gaussian with full covariance"),
    Definition("gaussian_bits_per_dim", "bits/dim", "lower", "gaussian_nll / (D ln 2)"),
    Definition("test_neg_elbo", "nats", "lower", "negative evidence lower bound per test example"),
    Definition("val_neg_elbo", "nats", "lower", "the same per validation example"),
    Definition("train_neg_elbo", "nats", "lower", "the same per training example"),
    Definition(
        "test_neg_elbo_bits_per_dim", "bits/dim", "lower", "test_neg_elbo / (D ln 2), Frey Faces"
    ),
    Definition(
        "test_iw_nll", "nats", "lower", "importance-weighted estimate of the NLL per test example"
    ),
    Definition(
        "probe_variance", "nats²", "lower", "variance of log p of a test row over trace probes"
    ),
    Definition("cd", "distance²", "lower", "Chamfer distance, mean over samplings"),
    Definition("min_cd", "distance²", "lower", "Chamfer distance, least of all samplings"),
    Definition("emd", "distance", "lower", "exact earth mover's distance in D dimensions"),
    Definition("min_emd", "distance", "lower", "emd, least of all samplings"),
    Definition(
        "emd_3d_reading", "distance", "lower", "exact EMD of the first 3N numbers as 3-D points"
    ),
    Definition(
        "min_emd_3d_reading", "distance", "lower", "emd_3d_reading, least of all samplings"
    ),
    Definition(
        "emd_3d_reading_approximate",
        "distance",
        "lower",
        "the same points by the approximate routine behind the published figures",
    ),
    Definition(
        "min_emd_3d_reading_approximate",
        "distance",
        "lower",
        "emd_3d_reading_approximate, least of all samplings",
    ),
    Definition(
        "mmd_kernel", "1", "lower", "squared maximum mean discrepancy, kernel exp(-|x-y|²), biased"
    ),
    Definition(
        "cov_l2_recon", "%", "higher", "coverage of test images by their own reconstructions"
    ),
    Definition(
        "mmd_l2_recon", "intensity²", "lower", "squared L2 of test images to reconstructions"
    ),
    Definition("cov_l2_prior", "%", "higher", "coverage of test images by draws of the prior"),
    Definition(
        "mmd_l2_prior", "intensity²", "lower", "squared L2 of test images to draws of the prior"
    ),
    *(
        Definition(
            f"log_prob_error_{name}",
            "nats",
            "lower",
            f"{what} over rows of |log p - that of float64, dopri5 at 1e-10, the same weights|",
        )
        for name, what in (("median", "median"), ("99", "99 % quantile"), ("max", "maximum"))
    ),
    Definition(
        "gradient_error",
        "1",
        "lower",
        "|g - reference| / |reference|, g the gradient of the training loss",
    ),
    Definition("parameters", "count", "neither", "number of parameters as papers count them"),
    Definition("steps", "count", "neither", "optimiser steps that were taken"),
)

_FLOORS = tuple(
    Definition(
        f"{name}_floor", definition.unit, "neither", f"{name} with training rows for samples"
    )
    for definition in _ALL
    for name in (definition.name.removesuffix("_prior"),)
    if definition.name in ROW_METRICS or name in IMAGE_METRICS
)
"""What a perfect model would score: no model should be read without it."""

DEFINITIONS: Mapping[str, Definition] = {
    definition.name: definition for definition in (*_ALL, *_FLOORS)
}
"""By name."""

RECORDED = tuple(name for name, definition in DEFINITIONS.items() if definition.recorded)
"""Names under `metrics` of a record."""
