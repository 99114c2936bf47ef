"""`end: interpolate`: the state at s = 1 within a step that passes it, as torchdiffeq has it."""

from __future__ import annotations

from harness.solvers import Tableau

__all__ = ["end_weights"]


def end_weights(tableau: Tableau, x: float) -> tuple[float, ...]:
    """Weights w of the stages in y(s + x h) = y + h sum_j w_j k_j.

    y is the polynomial of degree 4 through both ends, with their slopes, and through the midpoint
    y + h sum_j m_j k_j; the m are those of torchdiffeq's method of that name.

    Arguments:
        tableau: An FSAL pair that torchdiffeq has too.
        x: Place within the step, in [0, 1].
    """
    # Here, because most trials never need torchdiffeq.
    from torchdiffeq._impl.odeint import SOLVERS

    middle = SOLVERS[tableau.name].mid.tolist()
    of_end = x**2 * (-5 + x * (14 - 8 * x))
    of_middle = 16 * x**2 * (1 - x) ** 2
    weights = [of_end * b + of_middle * m for b, m in zip(tableau.b, middle, strict=True)]
    weights[0] += x * (1 + x * (-4 + x * (5 - 2 * x)))
    weights[-1] += x**2 * (1 + x * (-3 + 2 * x))
    return tuple(weights)
