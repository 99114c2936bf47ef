"""The integrands of the regularizers from full Jacobians (docs/numerics.md, section 5)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from harness.conformance.oracle.field import Field, Float, derivative

__all__ = ["integrand"]

_RADIUS, _POINTS = 0.05, 16


def integrand(name: str, field: Field, t: float, z: Float) -> Float:
    """One integrand at a time and state, [batch]."""
    if name.startswith("taylor_"):
        coefficient = _solution_series(field, t, z, int(name[-1]))
        return np.asarray((coefficient**2).mean(axis=1))
    batch, size = len(z), z[0].size
    f = field.f(t, z).real.reshape(batch, size)
    if name in ("rnode.kinetic", "kinetic_sum", "ffjord.l1", "ffjord.l2"):
        functions: dict[str, Callable[[], Float]] = {
            "rnode.kinetic": lambda: 0.5 * (f**2).mean(axis=1),
            "kinetic_sum": lambda: (f**2).sum(axis=1),
            "ffjord.l1": lambda: np.abs(f).mean(axis=1),
            "ffjord.l2": lambda: np.sqrt((f**2).mean(axis=1)),
        }
        return functions[name]()
    jacobian = field.jacobian(t, z)
    if name in ("rnode.jacobian", "jacobian_sum"):
        assert field.probe is not None
        rows = np.einsum("bi,bij->bj", field.probe.reshape(batch, size), jacobian)
        return np.asarray((rows**2).mean(axis=1) * (size if name == "jacobian_sum" else 1))
    pulled = np.einsum("bi,bij->bj", f, jacobian)
    diagonal = np.einsum("bii->bi", jacobian)
    off = (jacobian**2).sum(axis=(1, 2)) - (diagonal**2).sum(axis=1)
    rate = derivative(lambda at: field.f(at, z), t, 1.0).reshape(batch, size)
    pushed = np.einsum("bij,bj->bi", jacobian, f)
    return np.asarray(
        {
            "directional_jvp": lambda: (pushed**2).sum(axis=1),
            "ffjord.dl2": lambda: np.sqrt((pulled**2).mean(axis=1)),
            "ffjord.jdiag": lambda: np.sqrt((diagonal**2).mean(axis=1)),
            "ffjord.jfrob": lambda: np.sqrt((jacobian**2).mean(axis=(1, 2))),
            "ffjord.joffdiag": lambda: off / (size * (size - 1)),
            "released.jdiag": lambda: np.sqrt((jacobian[:, :, 0] ** 2).mean(axis=1)),
            "released.joffdiag": lambda: (
                (jacobian[:, :, 1:] ** 2).sum(axis=(1, 2)) / (size * (size - 1))
            ),
            "rnode.directional": lambda: 0.5 * (pulled**2).mean(axis=1),
            "rnode.total": lambda: 0.5 * ((pulled + rate) ** 2).mean(axis=1),
        }[name]()
    )


def _solution_series(field: Field, t: float, z: Float, order: int) -> Float:
    """d^K z / dt^K along the solution through (t, z), [batch, D].

    Coefficient k + 1 of the solution is coefficient k of f along what is known of it, over k + 1;
    Cauchy's formula on a circle gives that for an analytic f.
    """
    circle = _RADIUS * np.exp(2j * np.pi * np.arange(_POINTS) / _POINTS)
    known = [z.astype(complex)]
    for k in range(order):
        values = []
        for h in circle:
            path = sum(c * h**j for j, c in enumerate(known))
            values.append(field.f(t + h, np.asarray(path)))
        coefficient = np.fft.fft(np.stack(values), axis=0)[k] / (_POINTS * _RADIUS**k)
        known.append(coefficient.real / (k + 1))
    return np.asarray(known[order].real * math.factorial(order)).reshape(len(z), -1)
