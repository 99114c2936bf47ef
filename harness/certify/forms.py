"""The closed forms that the kit checks with, and their fixed rows of data."""

from __future__ import annotations

import numpy as np

from harness.certify.closed_forms import (
    Affine,
    ClosedForm,
    GaussianPath,
    Gudermann,
    Rows,
    TurningFrame,
)

__all__ = [
    "GAUSSIAN",
    "IMAGE",
    "LINEAR",
    "LONG",
    "NONLINEAR",
    "ONE_DIMENSION",
    "POTENTIAL",
    "ROTATION",
    "SHORT",
    "TIME_DEPENDENT",
    "TRACE",
    "data",
    "noise",
]

ROWS = 8


def _random(*shape: int) -> Rows:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def noise(dim: int) -> Rows:
    """Fixed rows of noise, (8, dim)."""
    return np.random.default_rng(dim).standard_normal((ROWS, dim))


def data(form: ClosedForm) -> Rows:
    """The data that the closed form makes of them."""
    return form.push(noise(form.dim))


_MATRIX = np.array([[0.5, 0.8, -0.3], [-0.6, 0.2, 0.4], [0.1, -0.7, 0.3]])
_SKEW = np.array([[0.0, -1.1, 0.4], [1.1, 0.0, -0.7], [-0.4, 0.7, 0.0]])
_HESSIAN = np.array([[0.9, 0.3, -0.2], [0.3, -0.4, 0.1], [-0.2, 0.1, 0.6]])
_OFFSET = np.array([0.3, -0.5, 0.8])
_FRAME = np.linalg.qr(_random(3, 3))[0]
_PLANE = np.array([[0.7, 0.5], [-0.2, -0.3]])

LINEAR = Affine(matrix=_MATRIX, offset=_OFFSET)
ONE_DIMENSION = Affine(matrix=np.array([[0.7]]), offset=np.array([0.4]))
ROTATION = Affine(matrix=_SKEW, offset=np.zeros(3))
# f = -grad (x^T H x / 2 + b^T x)
POTENTIAL = Affine(matrix=-_HESSIAN, offset=-_OFFSET)
GAUSSIAN = GaussianPath(mean=np.array([1.0, -2.0, 0.5]), scale=np.array([0.3, 1.0, 2.0]))
NONLINEAR = Gudermann(frame=_FRAME, theta=1.2)
TIME_DEPENDENT = TurningFrame(matrix=_PLANE, rate=2.0)
SHORT = Affine(matrix=_MATRIX, offset=_OFFSET, end_time=0.5)
LONG = TurningFrame(matrix=_PLANE, rate=2.0, end_time=2.0)
IMAGE = Affine(matrix=0.3 * _random(12, 12), offset=np.zeros(12), image=(3, 2, 2))
# Its trace is large beside the spread of an estimate, so that a bias of a few percent shows.
TRACE = Affine(matrix=np.diag([1.0, 0.8, 0.6, 0.4]) + 0.15 * _random(4, 4), offset=np.zeros(4))
