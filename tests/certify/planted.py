"""A small flow of numpy in which faults can be planted: Runge-Kutta steps and complex steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.certify.closed_forms import standard_normal_log_p

STEPS = 36


def exact(flow: Any, t: float, x: Any, dim: int) -> Any:
    """The trace of the Jacobian of each row."""
    shifted = x.reshape(len(x), dim) + 1e-20j * np.eye(dim)[:, None]
    moved = flow(t, shifted.reshape(dim, *x.shape)).imag.reshape(shifted.shape) / 1e-20
    return np.einsum("iri->r", moved)


def runge_kutta(rate: Callable[[float, Any], Any], state: Any, start: float, end: float) -> Any:
    """The classical fourth order in equal steps."""
    h = (end - start) / STEPS
    for t in start + h * np.arange(STEPS):
        a = rate(t, state)
        b = rate(t + h / 2, state + h / 2 * a)
        c = rate(t + h / 2, state + h / 2 * b)
        state = state + h / 6 * (a + 2 * b + 2 * c + rate(t + h, state + h * c))
    return state


def euler(rate: Callable[[float, Any], Any], state: Any, start: float, end: float) -> Any:
    """One step."""
    return state + (end - start) * rate(start, state)


@dataclass(frozen=True)
class Flow:
    """A builder; each argument can be a fault.

    Arguments:
        solve: (rate, state, start, end) -> state.
        trace: (field, t, x, dim) -> rows.
        ends: T -> the times at which log_prob starts and ends.
        clock: (t, T) -> the time that the field is asked at.
        log_p: (log N(z), change of log p, z) -> rows.
        cast: What happens to x on its way in.
    """

    solve: Callable[..., Any] = runge_kutta
    trace: Callable[..., Any] = exact
    ends: Callable[[float], tuple[float, float]] = field(default=lambda end: (end, 0.0))
    clock: Callable[[float, float], float] = field(default=lambda t, end: t)
    log_p: Callable[[Any, Any, Any], Any] = field(default=lambda base, change, z: base + change)
    cast: Callable[[Any], Any] = field(default=lambda x: x)

    def __call__(self, flow: Any, dim: int) -> Any:
        """Returns log_prob and sample of a field."""

        def solved(x: Any, start: float, end: float) -> tuple[Any, Any]:
            def rate(t: float, state: Any) -> Any:
                at = state[:, :dim].reshape(x.shape)
                moved = flow(self.clock(t, flow.end_time), at).reshape(len(x), dim)
                change = self.trace(flow, self.clock(t, flow.end_time), at, dim)
                return np.concatenate([moved, change[:, None]], axis=1)

            first = np.concatenate([x.reshape(len(x), dim), np.zeros((len(x), 1))], axis=1)
            last = self.solve(rate, first, start, end).astype(x.dtype)
            return last[:, :dim], last[:, dim]

        def log_prob(x: Any) -> Any:
            z, change = solved(self.cast(x), *self.ends(flow.end_time))
            return self.log_p(standard_normal_log_p(z), change, z).astype(x.dtype)

        def sample(z: Any) -> Any:
            x, change = solved(z, *self.ends(flow.end_time)[::-1])
            base = standard_normal_log_p(z.reshape(len(z), dim))
            return x.reshape(z.shape), base - change

        return log_prob, sample
