"""Runs all checks on one library."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

from harness.certify.certificate import Certificate, Finding
from harness.certify.checks import CHECKS, Subject
from harness.certify.estimates import ESTIMATE_CHECKS
from harness.certify.frameworks import FRAMEWORKS, Build
from harness.errors import InputError, Problem

__all__ = ["certify"]


def certify(
    build: Build,
    *,
    framework: str = "torch",
    estimated: Build | None = None,
    tolerance: float = 1e-4,
    name: str | None = None,
) -> Certificate:
    """Holds the flow that `build` makes to closed forms.

    Arguments:
        build: `build(field, dim)` returns `log_prob`, or `(log_prob, sample)`; see the package.
        framework: `torch`, `jax` or `numpy`: what `field` computes in. For jax, float64 is on
            while the checks run.
        estimated: The same with a trace estimated by random probes.
        tolerance: Largest error of log p that is accepted in float64, in nats; it should leave
            room for the tolerances of the solver.
        name: What the certificate calls the library.

    Returns:
        A certificate; printed, it is a table. An exception in the library is a failed check.

    Raises:
        InputError: The framework is unknown or not installed, or the tolerance is not positive.
    """
    problems = []
    if framework not in FRAMEWORKS:
        known = sorted(FRAMEWORKS)
        message = f"unknown framework '{framework}'"
        problems.append(Problem("framework", message, known=known, found=framework))
    if not 0 < tolerance < 1:
        message = f"a number of nats between 0 and 1 expected, found {tolerance}"
        problems.append(Problem("tolerance", message))
    if problems:
        raise InputError(problems)
    try:
        chosen = FRAMEWORKS[framework]()
    except ModuleNotFoundError as error:
        fix = f"pip install {framework}"
        message = f"{error.name} is not installed"
        raise InputError([Problem(f"framework {framework}", message, fix=fix)]) from error
    subject = Subject(build, estimated, chosen, tolerance)
    with chosen.settings():
        findings = [
            _finding(what, check, subject) for what, check in {**CHECKS, **ESTIMATE_CHECKS}.items()
        ]
    called = name or f"{build.__module__}:{getattr(build, '__qualname__', type(build).__name__)}"
    return Certificate(called, framework, tolerance, findings)


def _finding(what: str, check: Callable[[str, Subject], Finding], subject: Subject) -> Finding:
    try:
        return check(what, subject)
    except NotImplementedError as error:
        return Finding(what, "", "", "not run", str(error) or "not implemented")
    except Exception as error:  # whatever a library raises is its result
        return Finding(what, "", "", "FAIL", _sentence(error))


def _sentence(error: Exception) -> str:
    """What was raised, in one line, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    text = text if len(text) <= 160 else text[:157] + "..."
    if isinstance(error, ValueError) and last.filename.startswith(str(Path(__file__).parent)):
        return text
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}:{last.lineno})"
