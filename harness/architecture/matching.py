"""Flow matching without a framework: paths, couplings, and what a training step finds of them.

A path joins a row x at s = 0 with a base sample e at s = 1: y(s) = alpha(s) x + sigma(s) e. That
is the direction of the flow, whose field is to carry y along (docs/numerics.md). The flow of K
blocks divides it: block k covers [k / K, (k + 1) / K], and every row has a point on each of them,
at a time of its own.

References:
    Y. Lipman, R. T. Q. Chen, H. Ben-Hamu, M. Nickel, M. Le: Flow matching for generative modeling,
    2023, https://arxiv.org/abs/2210.02747.
    M. S. Albergo, E. Vanden-Eijnden: Building normalizing flows with stochastic interpolants,
    2023, https://arxiv.org/abs/2209.15571.
    A. Tong et al.: Improving and generalizing flow-based generative models with minibatch optimal
    transport, 2024, https://arxiv.org/abs/2302.00482.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.architecture.noise import BASE, PATH_TIME
from harness.architecture.transforms import blocks_of
from harness.interface import Batch
from harness.trial import AdaptiveSolver, FlowMatching, Trial

__all__ = ["VP_START", "Path", "matched", "path_of", "unmatched"]

Float = npt.NDArray[np.float64]

VP_START = 1e-5
"""Points of the path `vp` are no nearer to the data: the rate of sigma is infinite at s = 0."""

_VP_MIN, _VP_MAX = 0.1, 20.0
"""Ends of the noise schedule of the path `vp`, B'(s) = 0.1 + 19.9 s."""


class Path(NamedTuple):
    """A path at some times: y = alpha x + sigma e, and the rates of both in s."""

    alpha: Float
    sigma: Float
    alpha_rate: Float
    sigma_rate: Float


def path_of(objective: FlowMatching, s: Float) -> Path:
    """The path of an objective at the times s in [0, 1], entry by entry."""
    if objective.path == "linear":
        slope = 1 - objective.sigma_min
        return Path(
            1 - s, objective.sigma_min + slope * s, np.full_like(s, -1), np.full_like(s, slope)
        )
    if objective.path == "trigonometric":
        turn = math.pi / 2
        cos, sin = np.cos(turn * s), np.sin(turn * s)
        return Path(cos, sin, -turn * sin, turn * cos)
    integral = _VP_MIN * s + (_VP_MAX - _VP_MIN) / 2 * s**2
    rate = _VP_MIN + (_VP_MAX - _VP_MIN) * s
    alpha, sigma = np.exp(-integral / 2), np.sqrt(-np.expm1(-integral))
    return Path(alpha, sigma, -rate / 2 * alpha, rate / 2 * alpha**2 / sigma)


def unmatched(trial: Trial) -> str | None:
    """Why flow matching cannot train a trial; None if it can, or if it is not asked to."""
    if not isinstance(trial.objective, FlowMatching):
        return None
    model, solver = trial.model, trial.solver
    if model.posterior is not None:
        return (
            "flow matching needs rows to join with base samples, and the flow of an autoencoder "
            "is over a latent whose distribution changes as the encoder trains"
        )
    if model.batch_norm is not None:
        return (
            "flow matching follows one path from data to base, and a batch norm between the "
            "blocks moves the state off it"
        )
    if model.scales > 1:
        return (
            "flow matching follows one path from data to base, and the channels that leave a "
            "multiscale model early end theirs before it does"
        )
    if trial.regularizer:
        return (
            "a regularizer is an integral over a training solve, and flow matching solves nothing "
            "in training"
        )
    if isinstance(solver, AdaptiveSolver) and solver.first_step == "warm":
        return (
            "a warm first step comes from the training solve before, and flow matching solves "
            "nothing in training"
        )
    return None


def matched(trial: Trial, batch: Batch) -> Batch:
    """A training batch with its points on the paths, in float64 and then the batch's precision.

    Arguments:
        trial: The trial; a batch of any objective but `flow_matching` is handed back as it is.
        batch: Rows, and the noise that `noise_slots` names: base samples and times.

    Returns:
        The same rows; in the place of the base samples, for each block k with s = (k + u) / K and
        u its times, `path_time/<k>` u [size]; `point/<k>` y(s) [size, *event_shape]; and
        `rate/<k>` dy/du = y'(s) / K of the same shape.
    """
    objective = trial.objective
    if not isinstance(objective, FlowMatching):
        return batch
    x = batch.x.astype(np.float64)
    base = batch.noise[BASE].astype(np.float64)
    if objective.coupling == "minibatch_ot":
        base = base[_assignment(x, base)]
    sides = (-1, *[1] * (x.ndim - 1))
    blocks = len(blocks_of(trial.model, x.shape[1:]))
    noise: dict[str, Float] = {}
    for k in range(blocks):
        u = batch.noise[f"{PATH_TIME}/{k}"].astype(np.float64)
        if objective.path == "vp" and k == 0:
            u = np.maximum(u, blocks * VP_START)
        path = Path(*(part.reshape(sides) for part in path_of(objective, (k + u) / blocks)))
        noise |= {
            f"{PATH_TIME}/{k}": u,
            f"point/{k}": path.alpha * x + path.sigma * base,
            f"rate/{k}": (path.alpha_rate * x + path.sigma_rate * base) / blocks,
        }
    kind = batch.x.dtype
    return replace(batch, noise={name: value.astype(kind) for name, value in noise.items()})


def _assignment(x: Float, base: Float) -> npt.NDArray[np.intp]:
    """Which base sample each row gets, each once, so that the sum of squared distances is least:
    the optimal transport of two clouds of equal weights.
    """
    # Loaded where it is used; scikit-learn, which toys need, brings it.
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    # Distances and not a matrix product, which each BLAS rounds in its own way.
    costs = cdist(x.reshape(len(x), -1), base.reshape(len(base), -1), "sqeuclidean")
    return np.asarray(linear_sum_assignment(costs)[1])
