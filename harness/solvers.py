"""Runge-Kutta methods as data: the Butcher tableaux both backends are built from.

One name means one set of coefficients in every backend. All solves run over s in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "ADAPTIVE_SOLVERS",
    "FIXED_SOLVERS",
    "LIBRARY_ADAPTIVE",
    "LIBRARY_FIXED",
    "LIBRARY_SOLVERS",
    "REVERSIBLE_COUPLING",
    "TABLEAUX",
    "Tableau",
]

REVERSIBLE_COUPLING = 0.999
"""How far the two states of a reversible pair stay apart (docs/numerics.md, 6): lambda of S.
McCallum and J. Foster, Efficient, accurate and stable gradients for neural ODEs, 2024,
https://arxiv.org/abs/2410.11648. A solve backwards multiplies rounding by 1 / lambda a step."""


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
        middle: Weights of the state halfway through a step, of the pairs for which torchdiffeq has
            them; what it interpolates by.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    error: tuple[float, ...] | None
    source: str
    middle: tuple[float, ...] | None = None

    @property
    def stages(self) -> int:
        """Number of stages, the reused one of an FSAL pair included."""
        return len(self.b)

    @property
    def fsal(self) -> bool:
        """True if the last stage of a step is the first stage of the next."""
        return self.b[-1] == 0 and self.a[-1] == self.b[:-1] and self.c[-1] == 1

    @property
    def integrated(self) -> tuple[bool, ...]:
        """Of each stage, whether the solution or the error estimate has a weight for its rate, in
        this step or, of the last stage of an FSAL pair, in the next. An integral of what depends
        on other variables alone needs the rates of those stages, no others.
        """
        error = self.error or self.b
        own = [b != 0 or e != 0 for b, e in zip(self.b, error, strict=True)]
        return (*own[:-1], own[-1] or (self.fsal and own[0]))

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
    (0.0, 0.5, 0.0, 0.0),
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
    (
        6025192743 / 30085553152 / 2,
        0.0,
        51252292925 / 65400821598 / 2,
        -2691868925 / 45128329728 / 2,
        187940372067 / 1594534317056 / 2,
        -1776094331 / 19743644256 / 2,
        11237099 / 235043384 / 2,
    ),
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

# Rational approximations to 18 digits, as printed; torchdiffeq and diffrax carry the same ones.
_DOPRI8_A = (
    (),
    (1 / 18,),
    (1 / 48, 1 / 16),
    (1 / 32, 0.0, 3 / 32),
    (5 / 16, 0.0, -75 / 64, 75 / 64),
    (3 / 80, 0.0, 0.0, 3 / 16, 3 / 20),
    (
        *(29443841 / 614563906, 0.0, 0.0, 77736538 / 692538347),
        *(-28693883 / 1125000000, 23124283 / 1800000000),
    ),
    (
        *(16016141 / 946692911, 0.0, 0.0, 61564180 / 158732637),
        *(22789713 / 633445777, 545815736 / 2771057229, -180193667 / 1043307555),
    ),
    (
        *(39632708 / 573591083, 0.0, 0.0, -433636366 / 683701615, -421739975 / 2616292301),
        *(100302831 / 723423059, 790204164 / 839813087, 800635310 / 3783071287),
    ),
    (
        *(246121993 / 1340847787, 0.0, 0.0, -37695042795 / 15268766246),
        *(-309121744 / 1061227803, -12992083 / 490766935, 6005943493 / 2108947869),
        *(393006217 / 1396673457, 123872331 / 1001029789),
    ),
    (
        *(-1028468189 / 846180014, 0.0, 0.0, 8478235783 / 508512852, 1311729495 / 1432422823),
        *(-10304129995 / 1701304382, -48777925059 / 3047939560, 15336726248 / 1032824649),
        *(-45442868181 / 3398467696, 3065993473 / 597172653),
    ),
    (
        *(185892177 / 718116043, 0.0, 0.0, -3185094517 / 667107341, -477755414 / 1098053517),
        *(-703635378 / 230739211, 5731566787 / 1027545527, 5232866602 / 850066563),
        *(-4093664535 / 808688257, 3962137247 / 1805957418, 65686358 / 487910083),
    ),
    (
        *(403863854 / 491063109, 0.0, 0.0, -5068492393 / 434740067, -411421997 / 543043805),
        *(652783627 / 914296604, 11173962825 / 925320556, -13158990841 / 6184727034),
        *(3936647629 / 1978049680, -160528059 / 685178525, 248638103 / 1413531060, 0.0),
    ),
)
_DOPRI8_B = (
    *(14005451 / 335480064, 0.0, 0.0, 0.0, 0.0, -59238493 / 1068277825),
    *(181606767 / 758867731, 561292985 / 797845732, -1041891430 / 1371343529),
    *(760417239 / 1151165299, 118820643 / 751138087, -528747749 / 2220607170, 1 / 4),
)
_DOPRI8_EMBEDDED = (
    *(13451932 / 455176623, 0.0, 0.0, 0.0, 0.0, -808719846 / 976000145),
    *(1757004468 / 5645159321, 656045339 / 265891186, -3867574721 / 1518517206),
    *(465885868 / 322736535, 53011238 / 667516719, 2 / 45, 0.0),
)

_DOPRI8 = Tableau(
    "dopri8",
    8,
    (*_DOPRI8_A, _DOPRI8_B),
    (*_DOPRI8_B, 0.0),
    (
        *(0.0, 1 / 18, 1 / 12, 1 / 8, 5 / 16, 3 / 8, 59 / 400, 93 / 200),
        *(5490023248 / 9719169821, 13 / 20, 1201146811 / 1299019798, 1.0, 1.0, 1.0),
    ),
    (*(high - low for high, low in zip(_DOPRI8_B, _DOPRI8_EMBEDDED, strict=True)), 0.0),
    "Prince & Dormand (1981), RK8(7)13M, doi:10.1016/0771-050X(81)90010-3, with the last stage of "
    "an FSAL pair added, as in torchdiffeq and diffrax",
    # The polynomials that torchdiffeq has for these weights, at a half.
    (
        *(0.04103130360739393, 0.0, 0.0, 0.0, 0.0, 0.05100562801991382, 0.2388930677412202),
        *(0.3096870143996103, -0.2172325471755352, 0.07833405679331928, -0.0018614369715579948),
        *(0.007072844202678841, 0.00690847373200576, -0.013838404349047373),
    ),
)

TABLEAUX: Mapping[str, Tableau] = {
    tableau.name: tableau
    for tableau in (
        *(_EULER, _MIDPOINT, _HEUN2, _RK4_CLASSIC, _RK4_38),
        *(_BOSH3, _DOPRI5, _TSIT5, _DOPRI8),
    )
}

FIXED_SOLVERS = tuple(sorted(t.name for t in TABLEAUX.values() if t.error is None))
ADAPTIVE_SOLVERS = tuple(sorted(t.name for t in TABLEAUX.values() if t.error is not None))

LIBRARY_ADAPTIVE: Mapping[str, tuple[str, ...]] = {
    "diffrax": (
        *("Bosh3", "Dopri5", "Dopri8", "Heun", "ImplicitEuler", "Kvaerno3", "Kvaerno4"),
        *("Kvaerno5", "Midpoint", "Ralston", "ReversibleHeun", "Tsit5"),
    ),
    "torchdiffeq": ("adaptive_heun", "bosh3", "dopri5", "dopri8", "fehlberg2", "scipy_solver"),
}
LIBRARY_FIXED: Mapping[str, tuple[str, ...]] = {
    "diffrax": ("Euler", "LeapfrogMidpoint"),
    "torchdiffeq": (
        *("euler", "explicit_adams", "fixed_adams", "heun2", "heun3", "implicit_adams"),
        *("midpoint", "rk4"),
    ),
}
LIBRARY_SOLVERS: Mapping[str, tuple[str, ...]] = {
    library: tuple(sorted((*adaptive, *LIBRARY_FIXED[library])))
    for library, adaptive in LIBRARY_ADAPTIVE.items()
}
"""What the libraries under the backends have for ordinary differential equations."""
