"""What a suite promises beside its trials: gates on results and a budget."""

from __future__ import annotations

from dataclasses import dataclass

from harness.specs.bounds import STRICT, NonNegative, Positive

__all__ = ["METRICS", "Budget", "Gate"]


METRICS = (
    *("test_nll", "val_nll", "train_nll", "test_bits_per_dim", "gaussian_nll"),
    *("gaussian_bits_per_dim", "test_neg_elbo", "val_neg_elbo", "train_neg_elbo"),
    *("test_neg_elbo_bits_per_dim", "test_iw_nll", "parameters", "steps"),
    *("cd", "emd", "emd_3d_reading", "emd_3d_reading_approximate", "mmd_kernel"),
    *("min_cd", "min_emd", "min_emd_3d_reading", "min_emd_3d_reading_approximate"),
    *("cd_floor", "emd_floor", "emd_3d_reading_floor", "emd_3d_reading_approximate_floor"),
    *("mmd_kernel_floor", "cov_l2_recon", "mmd_l2_recon", "cov_l2_prior", "mmd_l2_prior"),
    *("cov_l2_floor", "mmd_l2_floor"),
)
"""Names under `metrics` of a record."""


@dataclass(frozen=True)
class Gate:
    """A bound that the results of a suite must keep, else `harness run` exits with code 3.

    Arguments:
        when: Filter expression; which trials it binds.
        metric: Name of the metric that must be lower than the bound.
        below: A number, or the name of another metric of the same trial.
        margin: The metric must be lower than the bound by at least so much.
    """

    __pydantic_config__ = STRICT

    when: str
    metric: str
    below: float | str
    margin: NonNegative = 0.0


@dataclass(frozen=True)
class Budget:
    """What a suite may spend at most, held against the timeouts of its trials in the plan.

    Arguments:
        gpu_hours: GPUs times hours; null means no limit.
        cpu_hours: CPU cores times hours; null means no limit.
    """

    __pydantic_config__ = STRICT

    gpu_hours: Positive | None = None
    cpu_hours: Positive | None = None
