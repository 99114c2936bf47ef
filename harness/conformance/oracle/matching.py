"""What the kit expects of a training step of flow matching.

From the rows, base samples and times that were drawn: nothing is shared with
`harness.architecture.matching`. A coupling is found by trying all, the rate of a path is the
imaginary part of a step along it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from harness.conformance.oracle.field import Field, Float, Number, derivative
from harness.trial import FlowMatching

__all__ = ["matching_loss"]


def matching_loss(
    objective: FlowMatching, fields: Sequence[Field], x: Float, base: Float, times: Sequence[Float]
) -> float:
    """Mean over the batch and over K blocks of |K T f(T u, y(s)) - y'(s)|^2, s = (k + u) / K.

    Arguments:
        objective: Path and coupling.
        fields: Of each block.
        x: Rows, [batch, ...].
        base: Base samples of the same shape.
        times: By block, the u of each row, [batch].
    """
    if objective.coupling == "minibatch_ot":
        orders = [list(order) for order in itertools.permutations(range(len(x)))]
        base = base[min(orders, key=lambda order: float(np.sum((x - base[order]) ** 2)))]
    blocks, total = len(fields), 0.0
    for k, (field, own) in enumerate(zip(fields, times, strict=True)):
        T = float(field.arrays["sqrt_end_time"]) ** 2
        for row, sample, u in zip(x, base, own.tolist(), strict=True):

            def path(s: Number, row: Float = row, sample: Float = sample) -> Number:
                return _path(objective, s, row, sample)

            s = np.asarray((k + u) / blocks)
            f = field.f(T * u, path(s)[None]).real[0]
            total += float(np.sum((blocks * T * f - derivative(path, s, 1.0)) ** 2))
    return total / blocks / len(x)


def _path(objective: FlowMatching, s: Number, x: Float, e: Float) -> Number:
    """The point y(s) of the path from x to e."""
    if objective.path == "trigonometric":
        return np.asarray(np.cos(np.pi * s / 2) * x + np.sin(np.pi * s / 2) * e)
    if objective.path == "vp":
        log_alpha = -(s**2) * (20 - 0.1) / 4 - s * 0.1 / 2
        return np.asarray(np.exp(log_alpha) * x + np.sqrt(1 - np.exp(2 * log_alpha)) * e)
    # Lipman et al.'s conditional path backwards: t = 1 - s.
    t = 1 - s
    return np.asarray((1 - (1 - objective.sigma_min) * t) * e + t * x)
