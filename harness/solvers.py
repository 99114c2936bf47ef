"""Runge-Kutta methods as data: the Butcher tableaux both backends are built from.

One name means one set of coefficients in every backend. All solves run over s in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ADAPTIVE_SOLVERS", "FIXED_SOLVERS", "TABLEAUX", "Tableau"]


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method, `k_i = f(s + c_i h, y + h sum_j a_ij k_j)`.

    Arguments:
        name: The name in suites.
        order: Order of the solution that is carried forward.
        a: Strictly lower triangular coefficients; row i has i entries.
        b: Weights of the solution.
        c: Nodes.
        error: Weights of the error estimate (solution minus embedded solution), None for a method
            without one.
        source: Where the coefficients were published.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    error: tuple[float, ...] | None
    source: str

    @property
    def stages(self) -> int:
        """Number of stages, the reused one of an FSAL pair included."""
        return len(self.b)

    @property
    def fsal(self) -> bool:
        """True if the last stage of a step is the first stage of the next."""
        return self.b[-1] == 0 and self.a[-1] == self.b[:-1] and self.c[-1] == 1

    @property
    def evaluations_per_step(self) -> int:
        """Evaluations one attempted step costs after the first."""
        return self.stages - 1 if self.fsal else self.stages

    def evaluations(self, attempted_steps: int, heuristic: bool) -> int:
        """Evaluations of a whole solve: steps, the first stage, the first-step heuristic.

        The heuristic reuses f(y0), so it costs one evaluation (Hairer, Norsett & Wanner, Solving
        Ordinary Differential Equations I, II.4); f(y0) itself is counted once, as the first stage
        of an FSAL pair, and extra for a method that evaluates it again in its first step.
        """
        first = 1 if self.fsal else 0
        return first + int(heuristic) + self.evaluations_per_step * attempted_steps


_EULER = Tableau("euler", 1, ((),), (1.0,), (0.0,), None, "Euler (1768)")

_MIDPOINT = Tableau("midpoint", 2, ((), (1 / 2,)), (0.0, 1.0), (0.0, 1 / 2), None, "Runge (1895)")

_HEUN2 = Tableau("heun2", 2, ((), (1.0,)), (1 / 2, 1 / 2), (0.0, 1.0), None, "Heun (1900)")

_RK4_CLASSIC = Tableau(
    "rk4_classic",
    4,
    ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
    (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    (0.0, 1 / 2, 1 / 2, 1.0),
    None,
    "Kutta (1901)",
)

_RK4_38 = Tableau(
    "rk4_38",
    4,
    ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
    (1 / 8, 3 / 8, 3 / 8, 1 / 8),
    (0.0, 1 / 3, 2 / 3, 1.0),
    None,
    "Kutta (1901), the 3/8 rule; what torchdiffeq calls rk4",
)

_BOSH3 = Tableau(
    "bosh3",
    3,
    ((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    (2 / 9, 1 / 3, 4 / 9, 0.0),
    (0.0, 1 / 2, 3 / 4, 1.0),
    (2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
    "Bogacki & Shampine (1989), doi:10.1016/0893-9659(89)90079-7",
)

_DOPRI5 = Tableau(
    "dopri5",
    5,
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
    (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    (
        35 / 384 - 1951 / 21600,
        0.0,
        500 / 1113 - 22642 / 50085,
        125 / 192 - 451 / 720,
        -2187 / 6784 - -12231 / 42400,
        11 / 84 - 649 / 6300,
        -1 / 60,
    ),
    "Dormand & Prince (1980) with the error weights of Shampine (1986), "
    "doi:10.1090/S0025-5718-1986-0815836-3: the pair that torchdiffeq and diffrax use",
)

_TSIT5 = Tableau(
    "tsit5",
    5,
    (
        (),
        (0.161,),
        (-0.00848065549235699, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (
            5.86145544294642,
            -12.92096931784711,
            8.159367898576159,
            -0.071584973281401,
            -0.02826905039406838,
        ),
        (
            0.09646076681806523,
            0.01,
            0.4798896504144996,
            1.379008574103742,
            -3.290069515436081,
            2.324710524099774,
        ),
    ),
    (
        0.09646076681806523,
        0.01,
        0.4798896504144996,
        1.379008574103742,
        -3.290069515436081,
        2.324710524099774,
        0.0,
    ),
    (0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    (
        0.00178001105222578,
        0.00081643445965675,
        -0.00788087801026199,
        0.1447110071732629,
        -0.5823571654525552,
        0.45808210592918686,
        -1 / 66,
    ),
    "Tsitouras (2011), doi:10.1016/j.camwa.2011.06.002, with more digits than printed there, "
    "as diffrax carries them",
)

TABLEAUX: Mapping[str, Tableau] = {
    tableau.name: tableau
    for tableau in (_EULER, _MIDPOINT, _HEUN2, _RK4_CLASSIC, _RK4_38, _BOSH3, _DOPRI5, _TSIT5)
}

FIXED_SOLVERS = tuple(sorted(t.name for t in TABLEAUX.values() if t.error is None))
ADAPTIVE_SOLVERS = tuple(sorted(t.name for t in TABLEAUX.values() if t.error is not None))
