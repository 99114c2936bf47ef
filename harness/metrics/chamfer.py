"""Chamfer distance of two sets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics.sets import as_sets, nearest

__all__ = ["cd"]


def cd(x: npt.ArrayLike, r: npt.ArrayLike) -> float:
    """Chamfer distance: squared distances to nearest neighbours, both directions added.

    CD(X, R) = (1/n) sum_i min_j |x_i - r_j|^2 + (1/m) sum_j min_i |x_i - r_j|^2

    No root, no halving, no division by D. Unit: that of the data, squared. Lower is better, but
    not zero: two independent sets of the same law keep a floor that grows with D (0.09 at D = 3,
    25 at D = 21, 135 at D = 63 for 3,000 unit Gaussians), so print it beside the value
    (`harness.metrics.floor`).

    Source: Meng et al., PaddingFlow, arXiv 2403.08216, program `distChamfer`, there in float32.
    Comparable with its "CD" if x and r are `min(20000, test rows)` standardised rows each and the
    value is the mean over 100 samplings; with its "MMD-CD" if it is the least of them (`min_cd`).

    Arguments:
        x: Samples [n, ...].
        r: References [m, ...].

    Raises:
        ValueError: A set is empty or the widths differ.
        MetricError: A number is not finite.
    """
    samples, references = as_sets(x, r)
    to_references = np.mean(nearest(samples, references)[1])
    to_samples = np.mean(nearest(references, samples)[1])
    return float(to_references + to_samples)
