"""A solver of ours as a call of torchdiffeq or diffrax: the same steps, by their public names.

Both run over t in [0, T], in which they choose the first step; ours runs over s = t / T and
chooses it in t (docs/numerics.md, section 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from harness.solvers import TABLEAUX
from harness.specs.solver import carries_log_volume
from harness.trial import AdaptiveSolver, FixedSolver, LibrarySolver, SolverSpec

__all__ = ["diffrax_call", "torchdiffeq_call"]

_TORCHDIFFEQ = {
    **{name: name for name in ("bosh3", "dopri5", "dopri8", "euler", "heun2", "midpoint")},
    "rk4_38": "rk4",
}
_DIFFRAX = {
    "bosh3": "Bosh3",
    "dopri5": "Dopri5",
    "dopri8": "Dopri8",
    "euler": "Euler",
    "heun2": "Heun",
    "midpoint": "Midpoint",
    "tsit5": "Tsit5",
}


def torchdiffeq_call(solver: SolverSpec) -> Mapping[str, object]:
    """Values of the placeholders `method`, `tolerances` and `options` of the template.

    Raises:
        LookupError: torchdiffeq has no such method.
    """
    method = _TORCHDIFFEQ.get(_ours(solver).name)
    if method is None:
        raise LookupError(f"torchdiffeq has no '{solver.name}'")
    if isinstance(solver, FixedSolver):
        grid = f"torch.linspace(0.0, T, {solver.steps + 1}, dtype=t.dtype)"
        options = f'{{"grid_constructor": lambda f, y, t: {grid}}}'
        return {"method": method, "tolerances": "rtol=0, atol=0", "options": options}
    assert isinstance(solver, AdaptiveSolver)  # noqa: S101  (there are two kinds)
    parts = [f'"max_num_steps": {solver.max_steps}']
    # Without it torchdiffeq steps past the end and interpolates.
    parts += ['"step_t": ends'] if solver.end == "stop" else []
    parts += [f'"first_step": {_first(solver)}'] if _first(solver) else []
    # The default norm of a tuple is the largest root mean square of its tensors.
    if solver.norm == "rms_all":
        parts.append(
            '"norm": lambda y: torch.cat([s.flatten() for s in y]).square().mean().sqrt()'
        )
    return {
        "method": method,
        "tolerances": f"rtol={solver.rtol!r}, atol={solver.atol!r}",
        "options": "{" + ", ".join(parts) + "}",
    }


def diffrax_call(solver: SolverSpec) -> Mapping[str, object]:
    """Values of the placeholders of the template that a solver decides.

    diffrax hands its controller a wrapped term, for which its rule for the first step gives 0.01
    (0.7.2, `_select_initial_step`); the script calls the rule with the term itself.

    Raises:
        LookupError: diffrax cannot do what the solver does.
    """
    name = _ours(solver).name
    method, definition, dt0 = f"diffrax.{_DIFFRAX.get(name)}()", "", "None"
    if name not in _DIFFRAX:
        method, definition = "Tabulated()", _tabulated(name)
    if isinstance(solver, FixedSolver):
        control = f"diffrax.StepTo(ts=jnp.linspace(0.0, T, {solver.steps + 1}))"
        max_steps = solver.steps
    else:
        assert isinstance(solver, AdaptiveSolver)  # noqa: S101  (there are two kinds)
        if solver.end != "stop":
            raise LookupError("diffrax lands on the end, and does not step past it")
        norm = ", norm=mixed" if solver.norm == "mixed" else ""
        definition += _MIXED if norm else ""
        control = f"diffrax.PIDController(rtol={solver.rtol!r}, atol={solver.atol!r}{norm})"
        max_steps = solver.max_steps
        dt0 = _first(solver) or "h"
    return {
        "dt0": dt0,
        "first_step": _RULE.format(order=TABLEAUX[name].order) if dt0 == "h" else "",
        "private": _PRIVATE if dt0 == "h" else "",
        "method": method,
        "control": control,
        "max_steps": max_steps,
        "definition": definition,
    }


_PRIVATE = "from diffrax._step_size_controller.pid import _select_initial_step"
_RULE = """\
h = _select_initial_step(term, 0.0, (z, a), None, lambda _, *at: rates(*at), {order},
                         control.rtol, control.atol, control.norm)  # diffeqsolve takes 0.01"""

_MIXED = """\
def mixed(y):  # the larger root mean square, that over z or that over a
    return jnp.maximum(*(jnp.sqrt(jnp.mean(part**2)) for part in y))

"""


def _tabulated(name: str) -> str:
    ours = TABLEAUX[name]
    rows = ", ".join(_vector(row) for row in ours.a[1:])
    return f"""\
class Tabulated(diffrax.AbstractERK):
    tableau = diffrax.ButcherTableau(c={_vector(ours.c[1:])}, b_error=np.zeros({ours.stages}),
        b_sol={_vector(ours.b)}, a_lower=({rows}))
    interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k
    def order(self, terms): return {ours.order}

"""


def _vector(values: Sequence[float]) -> str:
    """Fractions as they are in books; a quotient of whole numbers is the float that we have."""
    parts = []
    for value in values:
        fraction = Fraction(value).limit_denominator(1000)
        exact = fraction.denominator > 1 and float(fraction) == value
        parts.append(f"{fraction.numerator}/{fraction.denominator}" if exact else repr(value))
    return f"np.array([{', '.join(parts)}])"


def _ours(solver: SolverSpec) -> AdaptiveSolver | FixedSolver:
    if isinstance(solver, LibrarySolver):
        raise LookupError(f"'{solver.name}' runs under its library's own control")
    if carries_log_volume(solver):
        raise LookupError("a script's solves do not start at a log-volume (log_volume_in_state)")
    return solver


def _first(solver: AdaptiveSolver) -> str | None:
    """The first step, if it is none of the rule's: `warm` is for training alone."""
    if solver.first_step in ("heuristic", "warm"):
        return None
    return "T" if solver.first_step == "whole" else f"{solver.first_step!r} * T"
