"""Coverage and minimum matching distance of images, as PaddingFlow's VAE tables have them.

Two uses, which must not be mixed up: on reconstructions of the very references (`cov_l2_recon`,
`mmd_l2_recon`: as published, near 100 % and near the reconstruction error by construction), and
on draws from the prior (`cov_l2_prior`, `mmd_l2_prior`: what a reader would expect).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics.sets import as_sets, nearest

__all__ = ["cov_l2", "mmd_l2"]


def cov_l2(y: npt.ArrayLike, x: npt.ArrayLike) -> float:
    """Coverage: share of references that are the nearest reference of some sample, in percent.

    COV-L2 = 100 |{ argmin_j |y_i - x_j|^2 : i = 1 .. n }| / m

    Higher is better; 100 only if every reference is the nearest of some sample. References that
    are equal in all pixels count once.

    Source: Meng et al., PaddingFlow, arXiv 2403.08216, program `lgan_mmd_cov`. Comparable with its
    "COV-L2" if y are the reconstructions of the whole test set x (decoder's Bernoulli means for
    binary pixels; the likeliest class / 255 for Frey Faces), one draw of the posterior each.

    Arguments:
        y: Samples [n, ...], pixels in [0, 1].
        x: References [m, ...], pixels in [0, 1].

    Raises:
        ValueError: A set is empty or the widths differ.
        MetricError: A number is not finite.
    """
    samples, references = as_sets(y, x)
    covered = np.unique(references[nearest(samples, references)[0]], axis=0)
    return 100.0 * len(covered) / len(references)


def mmd_l2(y: npt.ArrayLike, x: npt.ArrayLike) -> float:
    """Minimum matching distance: mean over references of the squared distance to the next sample.

    MMD-L2 = (1/m) sum_j min_i |y_i - x_j|^2

    The distance is summed over pixels: no root, no division by their number. Unit: squared
    intensity, with pixels in [0, 1]. Lower is better. Not the maximum mean discrepancy, which is
    `mmd_kernel`.

    Source: Meng et al., PaddingFlow, arXiv 2403.08216, programs `distChamferImg` and
    `lgan_mmd_cov`. Comparable with its "MMD-L2" under the conditions of `cov_l2`.

    Arguments:
        y: Samples [n, ...], pixels in [0, 1].
        x: References [m, ...], pixels in [0, 1].

    Raises:
        ValueError: A set is empty or the widths differ.
        MetricError: A number is not finite.
    """
    samples, references = as_sets(y, x)
    return float(np.mean(nearest(references, samples)[1]))
