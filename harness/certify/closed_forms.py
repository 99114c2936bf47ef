"""Fields whose flow is known in closed form: each gives its velocity and the map it integrates to.

Noise z ~ N(0, I) stands at t = 0, data x at t = T. All arrays have rows of D numbers.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "Affine",
    "ClosedForm",
    "GaussianPath",
    "Gudermann",
    "Rows",
    "TurningFrame",
    "standard_normal_log_p",
]

Rows = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def standard_normal_log_p(z: Rows) -> Rows:
    """Log density of N(0, I) at each row of z, in nats."""
    return np.asarray(-0.5 * (z**2).sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi))


@dataclass(frozen=True, kw_only=True)
class ClosedForm(ABC):
    """A field with a parameter theta, and what integrating it from 0 to T does.

    Arguments:
        end_time: T.
        theta: The parameter, 1 where the field does not have it.
        image: Shape of one event if it is not a vector.
    """

    end_time: float = 1.0
    theta: float = 1.0
    image: tuple[int, ...] | None = None

    @property
    @abstractmethod
    def dim(self) -> int:
        """D."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one event."""
        return self.image or (self.dim,)

    @abstractmethod
    def velocity(self, xp: Any, theta: Any, t: Any, x: Any) -> Any:
        """The field in the functions of one framework.

        Arguments:
            xp: `numpy`, or what stands for it: cos, sin, cosh, stack, and `constant(a, like)`.
            theta: The parameter, as the framework differentiates it.
            t: Scalar, or of the shape of x without its last axis.
            x: Of shape (..., D).
        """

    @abstractmethod
    def push(self, z: Rows) -> Rows:
        """Data of noise."""

    @abstractmethod
    def pull(self, x: Rows) -> tuple[Rows, Rows]:
        """Noise of data, and log |det dz/dx| of each row."""

    def log_p(self, x: Rows) -> Rows:
        """Log density of the data at each row, in nats."""
        z, log_det = self.pull(x)
        return np.asarray(standard_normal_log_p(z) + log_det)

    def gradient(self, x: Rows) -> float:
        """Derivative with respect to theta of the sum of log p over the rows."""
        # A central difference of a closed form in float64 keeps ten digits.
        high, low = (
            dataclasses.replace(self, theta=self.theta + step).log_p(x).sum()
            for step in (1e-5, -1e-5)
        )
        return float((high - low) / 2e-5)


@dataclass(frozen=True, kw_only=True)
class Affine(ClosedForm):
    """f(t, x) = theta (A x + b): the log determinant is theta T tr A, whatever x is.

    Arguments:
        matrix: A.
        offset: b.
    """

    matrix: Rows
    offset: Rows

    @property
    def dim(self) -> int:
        """D."""
        return len(self.matrix)

    def velocity(self, xp: Any, theta: Any, t: Any, x: Any) -> Any:
        """The formula of the class."""
        return theta * (x @ xp.constant(self.matrix.T, x) + xp.constant(self.offset, x))

    def _map(self, time: float) -> tuple[Rows, Rows]:
        from scipy.linalg import expm  # takes a fifth of a second to import

        d = self.dim
        generator = np.zeros((d + 1, d + 1))
        generator[:d, :d], generator[:d, d] = self.matrix, self.offset
        flow = expm(self.theta * time * generator)
        return flow[:d, :d], flow[:d, d]

    def push(self, z: Rows) -> Rows:
        """Data of noise."""
        matrix, offset = self._map(self.end_time)
        return np.asarray(z @ matrix.T + offset)

    def pull(self, x: Rows) -> tuple[Rows, Rows]:
        """Noise of data, and log |det dz/dx| of each row."""
        matrix, offset = self._map(-self.end_time)
        log_det = -self.theta * self.end_time * np.trace(self.matrix)
        return np.asarray(x @ matrix.T + offset), np.full(len(x), log_det)


@dataclass(frozen=True, kw_only=True)
class TurningFrame(ClosedForm):
    """f(t, x) = (W + R(t) B R(t)^T) x with R(t) = exp(t W), a turn by `rate` t, in the plane.

    In the turning frame y = R(t)^T x the field is B y, so the map is exp(T W) exp(T B). The
    matrices of two times do not commute: reading t wrongly changes the map.

    Arguments:
        matrix: B.
        rate: Radians in a unit of time.
    """

    matrix: Rows
    rate: float

    @property
    def dim(self) -> int:
        """D."""
        return 2

    def velocity(self, xp: Any, theta: Any, t: Any, x: Any) -> Any:
        """The formula of the class."""
        cos, sin = xp.cos(self.rate * t), xp.sin(self.rate * t)
        a, b = x[..., 0], x[..., 1]
        frame = xp.stack([cos * a + sin * b, cos * b - sin * a])
        moved = frame @ xp.constant(self.matrix.T, x)
        c, d = moved[..., 0], moved[..., 1]
        turned = xp.stack([cos * c - sin * d, sin * c + cos * d])
        return turned + self.rate * xp.stack([-b, a])

    def _turn(self) -> Rows:
        angle = self.rate * self.end_time
        cos, sin = math.cos(angle), math.sin(angle)
        return np.array([[cos, -sin], [sin, cos]])

    def _stretch(self, time: float) -> Rows:
        from scipy.linalg import expm

        return np.asarray(expm(time * self.matrix))

    def push(self, z: Rows) -> Rows:
        """Data of noise."""
        return np.asarray(z @ (self._turn() @ self._stretch(self.end_time)).T)

    def pull(self, x: Rows) -> tuple[Rows, Rows]:
        """Noise of data, and log |det dz/dx| of each row."""
        z = x @ (self._stretch(-self.end_time) @ self._turn().T).T
        return z, np.full(len(x), -self.end_time * np.trace(self.matrix))


@dataclass(frozen=True, kw_only=True)
class GaussianPath(ClosedForm):
    """The optimal field of flow matching from N(0, I) to N(m, diag s^2) along the linear path.

    With r = t / T, x_t = (1 - r) z + r x for independent z and x. The density at T is the
    Gaussian's; the map is not the optimal transport's, but in each dimension it is m + s z.

    References:
        Lipman et al., Flow Matching for Generative Modeling (2023), arXiv:2210.02747.
        Albergo and Vanden-Eijnden, Building Normalizing Flows with Stochastic Interpolants (2023),
        arXiv:2209.15571.

    Arguments:
        mean: m.
        scale: s.
    """

    mean: Rows
    scale: Rows

    @property
    def dim(self) -> int:
        """D."""
        return len(self.mean)

    def velocity(self, xp: Any, theta: Any, t: Any, x: Any) -> Any:
        """The formula of the class."""
        mean, variance = xp.constant(self.mean, x), xp.constant(self.scale**2, x)
        r = (t / self.end_time)[..., None]
        slope = (r * variance - (1 - r)) / ((1 - r) ** 2 + r**2 * variance)
        return (mean + slope * (x - r * mean)) / self.end_time

    def push(self, z: Rows) -> Rows:
        """Data of noise."""
        return np.asarray(self.mean + self.scale * z)

    def pull(self, x: Rows) -> tuple[Rows, Rows]:
        """Noise of data, and log |det dz/dx| of each row."""
        z = np.asarray((x - self.mean) / self.scale)
        return z, np.full(len(x), -np.log(self.scale).sum())


@dataclass(frozen=True, kw_only=True)
class Gudermann(ClosedForm):
    """f(t, x) = theta Q^T (1 / cosh(Q x)), Q orthogonal: not linear, and its trace depends on x.

    In y = Q x, d sinh(y) / dt = theta. (dy/dx = 1 / cosh x is the Gudermannian's equation.)

    Arguments:
        frame: Q.
    """

    frame: Rows

    @property
    def dim(self) -> int:
        """D."""
        return len(self.frame)

    def velocity(self, xp: Any, theta: Any, t: Any, x: Any) -> Any:
        """The formula of the class."""
        frame = xp.constant(self.frame, x)
        return theta * (1 / xp.cosh(x @ frame.T)) @ frame

    def push(self, z: Rows) -> Rows:
        """Data of noise."""
        y = np.arcsinh(np.sinh(z @ self.frame.T) + self.theta * self.end_time)
        return np.asarray(y @ self.frame)

    def pull(self, x: Rows) -> tuple[Rows, Rows]:
        """Noise of data, and log |det dz/dx| of each row."""
        after = x @ self.frame.T
        before = np.arcsinh(np.sinh(after) - self.theta * self.end_time)
        log_det = np.log(np.cosh(after) / np.cosh(before)).sum(-1)
        return np.asarray(before @ self.frame), log_det
