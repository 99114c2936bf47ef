"""Every case of the covering set against the oracle: initial arrays, evaluation, training step.

The oracle takes the same discrete steps, so agreement is a matter of rounding. Measured over all
cases of both backends, errors are about a tenth of the tolerances.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.architecture.arrays import initial_arrays
from harness.conformance.cases import data_of
from harness.conformance.inputs import (
    agree,
    check_gradient,
    evaluate,
    gradient_of,
    inputs,
    take_step,
)
from harness.conformance.oracle.flow import log_standard_normal
from harness.conformance.plugin import Subject
from harness.interface import Batch
from harness.solvers import TABLEAUX
from harness.streams.stream import Stream
from harness.trial import FixedSolver

FIXED, ADAPTIVE = 1e-12, 1e-9
"""Of log p and the loss. An adaptive solver amplifies rounding: its first step comes from the
difference of two rates a small step apart."""

GRADIENT = 1e-7
"""Of the gradient of the discrete solution: rounding over the step of the differences, 1e-5."""

ADJOINT = {"euler": 0.2, "heun2": 1e-2, "midpoint": 1e-2, "rk4_38": 1e-4, "rk4_classic": 1e-4}
"""Of the adjoint on 16 equal steps, which approximates that gradient to the method's order."""

ADJOINT_ADAPTIVE = 2e-3
"""Of the adjoint at tolerance 1e-6; its largest error is 9e-4, with relu and bosh3."""

BOTH_WAYS = {"euler": 2e-4, "heun2": 3e-5, "midpoint": 3e-5, "rk4_38": 1e-7, "rk4_classic": 1e-7}
"""Of log p of a sample, from the base and from the data, on 16 equal steps each way, of Euler on
256; of the base sample ten times as much."""

BOTH_WAYS_ADAPTIVE = 4e-5
"""The same at tolerance 1e-6."""

KINKS = ("elu", "relu")
"""The divergence of these nets has kinks or jumps, which move with the parameters. A gradient does
not see them move, and a difference of losses must be too small for one to pass an evaluation."""


def test_initial_arrays_are_the_architectures(subject: Subject) -> None:
    expected = initial_arrays(subject.trial, data_of(subject.trial))
    assert subject.arrays.keys() == expected.keys()
    for name, value in expected.items():
        assert subject.arrays[name].dtype == value.dtype
        assert subject.arrays[name].tobytes() == value.tobytes(), name


# An evaluation knows no gradient mode, and the training steps compare the loss of every case.
@pytest.mark.modes("direct")
def test_evaluation(subject: Subject) -> None:
    batch, control = inputs(subject.trial, "evaluate")
    report = evaluate(subject.model, batch, control, "log_prob", "encode")
    run = subject.oracle.run(subject.arrays, batch, control)
    tolerance = ADAPTIVE if subject.case.adaptive else FIXED
    agree(report.values["log_prob"], run.log_prob, tolerance, "log p")
    agree(report.values["encode"], run.z, tolerance, "z")
    assert report.values["encode"].shape == batch.x.shape
    taken = run.solves[0]
    assert report.nfe.accepted == (len(taken.steps),)
    assert report.nfe.rejected == (taken.rejected,)
    attempts = len(taken.steps) + taken.rejected
    tableau = TABLEAUX[subject.case.solver]
    assert report.nfe.forward == (tableau.evaluations(attempts, heuristic=subject.case.adaptive),)
    assert report.nfe.backward == report.nfe.vjp == report.nfe.recompute == ()


# Those whose solvers take small steps: what is compared is the solution, on two ways.
@pytest.mark.modes("adjoint")
def test_log_prob_of_a_sample_is_that_of_its_row(subject: Subject) -> None:
    """Carried from the base along the way of the sample, and from the sample as a row of data.

    The probe is the same both ways, so estimated traces agree, too. The arrays are moved away from
    where they start, since the log-determinant of a net of zeros is none.
    """
    case, model = subject.case, subject.model
    moved = {
        name: value + 0.1 * Stream(0, f"moved/{name}").normal(value.shape)
        for name, value in subject.arrays.items()
    }
    model.load_arrays(moved)
    batch, control = inputs(subject.trial, "evaluate")
    if case.solver == "euler":
        control = replace(control, solver=FixedSolver("euler", 256))
    base = Stream(0, "conformance/base").normal(batch.x.shape)
    drawn = Batch(batch.x[:0], {**batch.noise, "base": base})
    report = model.sample(drawn, control, density=True)
    assert report.failure is None, report.failure
    x, log_prob = report.values["sample"], report.values["log_prob"]
    evaluated = evaluate(model, replace(batch, x=x), control, "log_prob", "encode").values
    tolerance = BOTH_WAYS_ADAPTIVE if case.adaptive else BOTH_WAYS[case.solver]
    agree(log_prob, evaluated["log_prob"], tolerance, "log p of a sample")
    agree(evaluated["encode"], base, 10 * tolerance, "its base sample")
    # With the other sign it would be missed by twice as much.
    gained = np.abs(log_prob - log_standard_normal(base.reshape(len(base), -1))).max()
    assert 2 * gained > tolerance * max(1, np.abs(log_prob).max()), "too small to be missed"


def test_training_step(subject: Subject) -> None:
    case = subject.case
    batch, control = inputs(subject.trial)
    report = take_step(subject.model, batch, control)
    run = subject.oracle.run(subject.arrays, batch, control, train=True)
    agree(report.loss, run.loss, ADAPTIVE if case.adaptive else FIXED, "loss")
    if case.gradient != "adjoint":
        tolerance = GRADIENT
    elif case.adaptive:
        tolerance = ADJOINT_ADAPTIVE if case.nonlinearity in KINKS else 1e-4
    else:
        tolerance = ADJOINT[case.solver]
    gradient = gradient_of(subject.model.state())
    h = 1e-7 if case.gradient == "adjoint" and case.nonlinearity in KINKS else 1e-5
    check_gradient(gradient, subject.oracle, subject.arrays, (batch, control), run, tolerance, h=h)

    stages = TABLEAUX[case.solver].stages
    accepted = report.nfe.accepted[0]
    if case.gradient == "adjoint":
        assert report.nfe.backward[0] >= stages
        assert sum(report.nfe.vjp) == sum(report.nfe.recompute) == 0
    else:
        # The last stage of an FSAL pair in the last step does not reach the result.
        needed = accepted * TABLEAUX[case.solver].evaluations_per_step
        assert report.nfe.backward == ()
        assert report.nfe.vjp[0] >= needed
        again = 0 if case.gradient == "direct" else needed
        assert report.nfe.recompute[0] >= again if again else sum(report.nfe.recompute) == 0
